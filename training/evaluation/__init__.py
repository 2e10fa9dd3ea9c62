"""What a model does on photos that it never saw: figures with intervals, a report for people, a card, a gate."""
