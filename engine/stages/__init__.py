"""The stages: one file each, a function of its settings and its inputs' folders that fills its own folder."""
