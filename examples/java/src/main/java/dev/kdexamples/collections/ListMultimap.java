// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.collections;

import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;

/** A map from each key to a list of values; keys and values keep the order in which they came. */
public final class ListMultimap<K, V> {

    private final Map<K, List<V>> lists = new LinkedHashMap<>();
    private int size;

    public void put(K key, V value) {
        Objects.requireNonNull(key, "key");
        Objects.requireNonNull(value, "value");
        lists.computeIfAbsent(key, ignored -> new ArrayList<>()).add(value);
        size++;
    }

    public void putAll(K key, Collection<? extends V> values) {
        for (V value : values) {
            put(key, value);
        }
    }

    /** A read-only copy of the values of a key; empty for an unknown key. */
    public List<V> get(K key) {
        return List.copyOf(lists.getOrDefault(key, List.of()));
    }

    /** The first value of a key, or null. */
    public V getFirst(K key) {
        List<V> values = lists.get(key);
        return values == null ? null : values.get(0);
    }

    /** Removes one value of a key; says whether there was one. */
    public boolean remove(K key, V value) {
        List<V> values = lists.get(key);
        if (values == null || !values.remove(value)) {
            return false;
        }
        size--;
        if (values.isEmpty()) {
            lists.remove(key);
        }
        return true;
    }

    /** Removes a key and returns the values it had. */
    public List<V> removeAll(K key) {
        List<V> values = lists.remove(key);
        if (values == null) {
            return List.of();
        }
        size -= values.size();
        return values;
    }

    public boolean containsKey(K key) {
        return lists.containsKey(key);
    }

    public boolean containsEntry(K key, V value) {
        return lists.getOrDefault(key, List.of()).contains(value);
    }

    /** The number of values over all keys. */
    public int size() {
        return size;
    }

    /** The number of values of one key. */
    public int count(K key) {
        return lists.getOrDefault(key, List.of()).size();
    }

    public boolean isEmpty() {
        return size == 0;
    }

    /** A copy of the keys. */
    public Set<K> keySet() {
        return new LinkedHashSet<>(lists.keySet());
    }

    /** All values, key by key. */
    public List<V> values() {
        List<V> all = new ArrayList<>(size);
        lists.values().forEach(all::addAll);
        return all;
    }

    /** A new multimap from each value to the keys that had it. */
    public ListMultimap<V, K> inverse() {
        ListMultimap<V, K> inverse = new ListMultimap<>();
        lists.forEach((key, values) -> values.forEach(value -> inverse.put(value, key)));
        return inverse;
    }

    @Override
    public String toString() {
        return lists.toString();
    }
}
