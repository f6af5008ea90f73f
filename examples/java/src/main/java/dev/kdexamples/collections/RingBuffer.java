// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.collections;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;

/** A queue of fixed capacity that can drop its oldest element to make room for a new one. */
public final class RingBuffer<T> {

    private final Object[] slots;
    private int head;
    private int size;

    public RingBuffer(int capacity) {
        if (capacity < 1) {
            throw new IllegalArgumentException("capacity must be at least 1: " + capacity);
        }
        slots = new Object[capacity];
    }

    /** Adds an element and returns the one that had to go, or null when there was room. */
    public T push(T element) {
        Objects.requireNonNull(element, "element");
        T dropped = isFull() ? poll() : null;
        slots[(head + size) % slots.length] = element;
        size++;
        return dropped;
    }

    /** Adds an element where there is room; says whether it was added. */
    public boolean offer(T element) {
        if (isFull()) {
            return false;
        }
        push(element);
        return true;
    }

    /** Removes and returns the oldest element, or null when empty. */
    public T poll() {
        if (size == 0) {
            return null;
        }
        T oldest = element(head);
        slots[head] = null;
        head = (head + 1) % slots.length;
        size--;
        return oldest;
    }

    /** The oldest element, or null when empty. */
    public T peek() {
        return size == 0 ? null : element(head);
    }

    /** The newest element, or null when empty. */
    public T peekLast() {
        return size == 0 ? null : get(size - 1);
    }

    /** The element at an index; index zero is the oldest. */
    public T get(int index) {
        Objects.checkIndex(index, size);
        return element((head + index) % slots.length);
    }

    @SuppressWarnings("unchecked")
    private T element(int slot) {
        return (T) slots[slot];
    }

    public boolean contains(T element) {
        for (int i = 0; i < size; i++) {
            if (get(i).equals(element)) {
                return true;
            }
        }
        return false;
    }

    public int size() {
        return size;
    }

    public int capacity() {
        return slots.length;
    }

    /** The number of elements that can still be added without a drop. */
    public int remaining() {
        return slots.length - size;
    }

    public boolean isEmpty() {
        return size == 0;
    }

    public boolean isFull() {
        return size == slots.length;
    }

    public void clear() {
        Arrays.fill(slots, null);
        head = 0;
        size = 0;
    }

    /** A copy of the elements, oldest first. */
    public List<T> toList() {
        List<T> copy = new ArrayList<>(size);
        for (int i = 0; i < size; i++) {
            copy.add(get(i));
        }
        return copy;
    }

    @Override
    public String toString() {
        return toList().toString();
    }
}
