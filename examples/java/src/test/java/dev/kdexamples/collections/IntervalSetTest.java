// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.collections;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertIterableEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;

class IntervalSetTest {

    private static void assertIntervals(IntervalSet set, String expected) {
        assertNotNull(set);
        assertEquals(expected, set.toString());
    }

    @Test
    void joinsIntervals() {
        IntervalSet set = new IntervalSet().add(1, 3).add(5, 8);
        assertIntervals(set, "[[1,3), [5,8)]");
        set.add(3, 5);
        assertIntervals(set, "[[1,8)]");
        assertEquals(1, set.count());
    }

    @Test
    void joinsAcrossSeveral() {
        IntervalSet set = new IntervalSet().add(0, 2).add(4, 6).add(8, 10);
        set.add(1, 9);
        assertEquals(10L, set.totalLength());
        assertEquals(1, set.count());
        assertIterableEquals(List.of(new IntervalSet.Interval(0, 10)), set.intervals());
    }

    @Test
    void removesParts() {
        IntervalSet set = new IntervalSet().add(0, 10);
        set.remove(3, 5);
        assertEquals("[[0,3), [5,10)]", set.toString());
        assertEquals(8L, set.totalLength());
        assertFalse(set.contains(3));
        set.remove(-5, 20);
        assertTrue(set.isEmpty());
    }

    @Test
    void containsNumbers() {
        IntervalSet set = new IntervalSet().add(-2, 2).add(7, 9);
        assertTrue(set.contains(-2));
        assertFalse(set.contains(2));
        assertTrue(set.contains(8));
        assertTrue(set.containsAll(-1, 2));
        assertFalse(set.containsAll(1, 8));
    }

    @Test
    void findsIntervals() {
        IntervalSet set = new IntervalSet().add(10, 20);
        assertEquals(new IntervalSet.Interval(10, 20), set.find(15));
        assertNull(set.find(20));
        assertNotNull(set.find(10));
        assertEquals(10L, set.find(19).length());
    }

    @Test
    void addReturnsTheSetItself() {
        IntervalSet set = new IntervalSet();
        assertSame(set, set.add(1, 2));
        assertSame(set, set.remove(1, 2));
        assertNotSame(set.intervals(), set.intervals());
    }

    @Test
    void rejectsEmptyIntervals() {
        IntervalSet set = new IntervalSet();
        assertThrows(IllegalArgumentException.class, () -> set.add(3, 3));
        assertThrows(IllegalArgumentException.class, () -> set.remove(4, 3));
        assertThrows(IllegalArgumentException.class, () -> new IntervalSet.Interval(1, 0));
        assertTrue(set.isEmpty());
    }
}
