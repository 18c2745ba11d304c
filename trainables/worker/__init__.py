"""What lives in Ray's process: the trainable, its settings, its share of the machine, its failures."""
