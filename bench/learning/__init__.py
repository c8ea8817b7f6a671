"""Networks that learn labelled series: streams, schedules, trainers, readouts."""
