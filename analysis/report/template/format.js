"use strict";
// How values and configurations are written. Text only ever reaches the page as text: nothing here makes HTML.

const format = {
  // Four digits that count; whole numbers whole.
  number(value) {
    if (typeof value !== "number") return value === null || value === undefined ? "" : String(value);
    if (Number.isInteger(value)) return String(value);
    const size = Math.abs(value);
    return size >= 1e5 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  },
  duration(seconds) {
    const whole = Math.max(0, Math.round(seconds));
    const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
    const two = (count) => String(count).padStart(2, "0");
    if (hours) return `${hours}h${two(minutes)}m`;
    return minutes ? `${minutes}m${two(rest)}s` : `${rest}s`;
  },
  // {"optimizer.lr": 0.1} as the YAML that `visionsweep train` takes.
  yaml(flat) {
    const root = new Map();
    for (const [path, value] of Object.entries(flat)) {
      const parts = path.split(".");
      let at = root;
      for (const part of parts.slice(0, -1)) {
        if (!(at.get(part) instanceof Map)) at.set(part, new Map());
        at = at.get(part);
      }
      at.set(parts[parts.length - 1], value);
    }
    const plain = (value) =>
      value === "null" || (typeof value === "string" && /^[A-Za-z_][\w./-]*$/.test(value) && !/^(true|false|yes|no|on|off|y|n)$/i.test(value))
        ? value
        : JSON.stringify(value);
    const lines = (map, indent) =>
      [...map].flatMap(([key, value]) =>
        value instanceof Map ? [`${indent}${key}:`, ...lines(value, `${indent}  `)] : [`${indent}${key}: ${plain(value)}`]);
    return lines(root, "").join("\n");
  },
};

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function stored(id) {
  return JSON.parse(document.getElementById(id).textContent);
}
