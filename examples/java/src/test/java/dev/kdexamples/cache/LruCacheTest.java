// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.cache;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertIterableEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;

class LruCacheTest {

    private final LruCache<String, Integer> cache = new LruCache<>(2);

    @Test
    void storesValues() {
        assertNull(cache.put("one", 1));
        assertEquals(1, cache.get("one"));
        assertEquals(1, cache.put("one", 11));
        assertEquals(11, cache.get("one"));
        assertEquals(1, cache.size());
    }

    @Test
    void forgetsTheLeastRecentlyUsed() {
        cache.put("one", 1);
        cache.put("two", 2);
        cache.get("one");
        cache.put("three", 3);
        assertFalse(cache.containsKey("two"));
        assertTrue(cache.containsKey("one"));
        assertNull(cache.get("two"));
        assertEquals(1L, cache.getEvictions());
        assertEquals(2, cache.size(), "never above the capacity");
    }

    @Test
    void listsKeysByUse() {
        cache.put("one", 1);
        cache.put("two", 2);
        assertIterableEquals(List.of("one", "two"), cache.keys());
        cache.get("one");
        assertIterableEquals(List.of("two", "one"), cache.keys());
        cache.containsKey("two");
        assertEquals("two", cache.keys().get(0));
    }

    @Test
    void loadsMissingValues() {
        AtomicInteger calls = new AtomicInteger();
        assertEquals(3, cache.get("abc", key -> {
            calls.incrementAndGet();
            return key.length();
        }));
        assertEquals(3, cache.get("abc", key -> calls.incrementAndGet() + 100));
        assertEquals(1, calls.get());
        assertNull(cache.get("none", key -> null));
        assertFalse(cache.containsKey("none"));
    }

    @Test
    void countsHitsAndMisses() {
        assertEquals(0.0, cache.hitRate(), 1e-12);
        cache.put("one", 1);
        cache.get("one");
        cache.get("one");
        cache.get("two");
        assertEquals(2L, cache.getHits());
        assertEquals(1L, cache.getMisses());
        assertEquals(2.0 / 3, cache.hitRate(), 1e-12);
    }

    @Test
    void removes() {
        cache.put("one", 1);
        assertEquals(1, cache.remove("one"));
        assertNull(cache.remove("one"));
        cache.put("two", 2);
        cache.clear();
        assertEquals(0, cache.size());
        assertTrue(cache.keys().isEmpty());
    }

    @Test
    void rejectsBadArguments() {
        assertThrows(IllegalArgumentException.class, () -> new LruCache<String, String>(0));
        assertThrows(NullPointerException.class, () -> cache.put(null, 1));
        assertThrows(NullPointerException.class, () -> cache.put("one", null));
        assertEquals(2, cache.getCapacity());
    }
}
