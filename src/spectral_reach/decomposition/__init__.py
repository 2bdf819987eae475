"""Room 4: the loss, network and position components."""
