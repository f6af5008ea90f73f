// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.collections;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertIterableEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class RingBufferTest {

    private RingBuffer<String> buffer;

    @BeforeEach
    void setUp() {
        buffer = new RingBuffer<>(3);
    }

    @Test
    void startsEmpty() {
        assertTrue(buffer.isEmpty());
        assertEquals(0, buffer.size());
        assertEquals(3, buffer.capacity());
        assertNull(buffer.peek());
        assertNull(buffer.poll());
        assertNull(buffer.peekLast());
    }

    @Test
    void keepsTheOrder() {
        buffer.push("a");
        buffer.push("b");
        assertEquals("a", buffer.peek());
        assertEquals("b", buffer.peekLast());
        assertEquals("a", buffer.poll());
        assertEquals("b", buffer.poll());
        assertTrue(buffer.isEmpty());
    }

    @Test
    void dropsTheOldest() {
        assertNull(buffer.push("a"));
        buffer.push("b");
        buffer.push("c");
        assertTrue(buffer.isFull());
        assertEquals("a", buffer.push("d"));
        assertIterableEquals(List.of("b", "c", "d"), buffer.toList());
        assertEquals("[b, c, d]", buffer.toString());
    }

    @Test
    void offersOnlyWhereThereIsRoom() {
        assertTrue(buffer.offer("a"));
        assertTrue(buffer.offer("b"));
        assertEquals(1, buffer.remaining());
        assertTrue(buffer.offer("c"));
        assertFalse(buffer.offer("d"));
        assertFalse(buffer.contains("d"));
        assertTrue(buffer.contains("c"));
    }

    @Test
    void getsByIndexAfterWrapping() {
        for (int i = 0; i < 5; i++) {
            buffer.push("e" + i);
        }
        for (int i = 0; i < buffer.size(); i++) {
            assertEquals("e" + (i + 2), buffer.get(i));
        }
        assertThrows(IndexOutOfBoundsException.class, () -> buffer.get(3));
        assertThrows(IndexOutOfBoundsException.class, () -> buffer.get(-1));
    }

    @Test
    void clears() {
        buffer.push("a");
        buffer.clear();
        assertEquals(0, buffer.size());
        assertEquals(3, buffer.remaining());
        assertFalse(buffer.contains("a"));
    }

    @Test
    void copiesToAList() {
        buffer.push("a");
        List<String> first = buffer.toList();
        List<String> second = buffer.toList();
        assertEquals(first, second);
        assertNotSame(first, second);
        first.add("b");
        assertEquals(1, buffer.size(), "a change to the copy must not reach the buffer");
    }

    @Test
    void rejectsBadArguments() {
        assertThrows(IllegalArgumentException.class, () -> new RingBuffer<Integer>(0));
        assertThrows(NullPointerException.class, () -> buffer.push(null));
    }
}
