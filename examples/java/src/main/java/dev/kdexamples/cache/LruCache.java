// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.cache;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Objects;
import java.util.function.Function;

/** A cache that forgets the entry that was used least recently, and counts hits and misses. */
public final class LruCache<K, V> {

    private final int capacity;
    private final LinkedHashMap<K, V> entries = new LinkedHashMap<>(16, 0.75f, true);
    private long hits;
    private long misses;
    private long evictions;

    public LruCache(int capacity) {
        if (capacity < 1) {
            throw new IllegalArgumentException("capacity must be at least 1: " + capacity);
        }
        this.capacity = capacity;
    }

    /** The cached value, or null; a hit makes the entry the most recent. */
    public V get(K key) {
        V value = entries.get(Objects.requireNonNull(key, "key"));
        if (value == null) {
            misses++;
        } else {
            hits++;
        }
        return value;
    }

    /** The cached value, or else a freshly loaded one, which is then cached. */
    public V get(K key, Function<? super K, ? extends V> loader) {
        V value = get(key);
        if (value == null) {
            value = loader.apply(key);
            if (value != null) {
                put(key, value);
            }
        }
        return value;
    }

    /** Stores a value and returns the one it replaces, or null. */
    public V put(K key, V value) {
        Objects.requireNonNull(key, "key");
        Objects.requireNonNull(value, "value");
        V replaced = entries.put(key, value);
        if (entries.size() > capacity) {
            K eldest = entries.keySet().iterator().next();
            entries.remove(eldest);
            evictions++;
        }
        return replaced;
    }

    /** Whether a key is cached; does not count as a use. */
    public boolean containsKey(K key) {
        return entries.containsKey(key);
    }

    /** Removes an entry and returns its value, or null. */
    public V remove(K key) {
        return entries.remove(key);
    }

    public void clear() {
        entries.clear();
    }

    public int size() {
        return entries.size();
    }

    public int getCapacity() {
        return capacity;
    }

    public long getHits() {
        return hits;
    }

    public long getMisses() {
        return misses;
    }

    public long getEvictions() {
        return evictions;
    }

    /** Hits as a share of all look-ups, zero before the first. */
    public double hitRate() {
        long total = hits + misses;
        return total == 0 ? 0.0 : (double) hits / total;
    }

    /** The keys, least recently used first. */
    public List<K> keys() {
        return new ArrayList<>(entries.keySet());
    }
}
