"""Stream a store's rows as padded batches, in an order that is a pure function of store, seed and epoch."""
