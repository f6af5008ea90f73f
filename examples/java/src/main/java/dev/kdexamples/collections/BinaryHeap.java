// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.collections;

import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.Objects;

/** A priority queue on an array: the least element by the comparator is always first. */
public final class BinaryHeap<T> {

    private final Comparator<? super T> order;
    private final List<T> items = new ArrayList<>();

    public BinaryHeap(Comparator<? super T> order) {
        this.order = Objects.requireNonNull(order, "order");
    }

    /** An empty heap in natural order. */
    public static <E extends Comparable<E>> BinaryHeap<E> natural() {
        return new BinaryHeap<>(Comparator.<E>naturalOrder());
    }

    /** A heap in natural order that holds the given elements. */
    public static <E extends Comparable<E>> BinaryHeap<E> of(Collection<E> elements) {
        BinaryHeap<E> heap = natural();
        heap.addAll(elements);
        return heap;
    }

    public void add(T element) {
        items.add(Objects.requireNonNull(element, "element"));
        siftUp(items.size() - 1);
    }

    public void addAll(Collection<? extends T> elements) {
        for (T element : elements) {
            add(element);
        }
    }

    /** The least element, or null when empty. */
    public T peek() {
        return items.isEmpty() ? null : items.get(0);
    }

    /** Removes and returns the least element, or null when empty. */
    public T poll() {
        if (items.isEmpty()) {
            return null;
        }
        T least = items.get(0);
        T last = items.remove(items.size() - 1);
        if (!items.isEmpty()) {
            items.set(0, last);
            siftDown(0);
        }
        return least;
    }

    /** Removes and returns the least element. */
    public T remove() {
        if (items.isEmpty()) {
            throw new NoSuchElementException("heap is empty");
        }
        return poll();
    }

    /** Adds one element and removes the least, which may be the same. */
    public T pushPop(T element) {
        add(element);
        return poll();
    }

    /** Removes all elements in order. */
    public List<T> drain() {
        List<T> sorted = new ArrayList<>(items.size());
        while (!items.isEmpty()) {
            sorted.add(poll());
        }
        return sorted;
    }

    public int size() {
        return items.size();
    }

    public boolean isEmpty() {
        return items.isEmpty();
    }

    public boolean contains(T element) {
        return items.contains(element);
    }

    private void siftUp(int start) {
        int index = start;
        while (index > 0) {
            int parent = (index - 1) / 2;
            if (order.compare(items.get(index), items.get(parent)) >= 0) {
                return;
            }
            Collections.swap(items, index, parent);
            index = parent;
        }
    }

    private void siftDown(int start) {
        int index = start;
        while (true) {
            int least = index;
            for (int child = 2 * index + 1; child <= 2 * index + 2; child++) {
                if (child < items.size() && order.compare(items.get(child), items.get(least)) < 0) {
                    least = child;
                }
            }
            if (least == index) {
                return;
            }
            Collections.swap(items, index, least);
            index = least;
        }
    }
}
