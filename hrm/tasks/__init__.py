"""Puzzles for the HRM: see `hrm.tasks.task.Task` for what a task is, and how to bring one's own."""
