"""How true a stored signal is to its teacher: measured before a store is built, and kept in its manifest."""
