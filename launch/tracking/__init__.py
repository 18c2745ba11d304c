"""A run for other tools: Optuna's journal, loggers, the dashboard."""
