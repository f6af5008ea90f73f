"""Everything that can be known before a long run: checks that go through a run's parts without writing anything.

`kdtrain.preflight.order` has the list; each other file holds the checks of one subject. A check is a function of a
`Flight`; it yields what it found, leaves in the flight what later checks need, and raises where it must end.
"""
