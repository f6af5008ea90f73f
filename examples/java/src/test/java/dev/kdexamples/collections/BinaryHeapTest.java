// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.collections;

import static org.hamcrest.MatcherAssert.assertThat;
import static org.hamcrest.Matchers.contains;
import static org.hamcrest.Matchers.empty;
import static org.hamcrest.Matchers.equalTo;
import static org.hamcrest.Matchers.greaterThan;
import static org.hamcrest.Matchers.hasSize;
import static org.hamcrest.Matchers.is;
import static org.hamcrest.Matchers.lessThan;
import static org.hamcrest.Matchers.not;
import static org.hamcrest.Matchers.nullValue;
import static org.hamcrest.Matchers.sameInstance;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.Comparator;
import java.util.List;
import java.util.NoSuchElementException;
import org.junit.jupiter.api.Test;

class BinaryHeapTest {

    private record Task(String name, int urgency) {
    }

    @Test
    void ordersRecords() {
        var heap = new BinaryHeap<Task>(Comparator.comparingInt(Task::urgency));
        var later = new Task("tidy up", 9);
        heap.add(later);
        heap.add(new Task("put out the fire", 1));
        assertThat(heap.poll(), is(new Task("put out the fire", 1)));
        assertThat(heap.peek(), is(sameInstance(later)));
        assertThat(heap.contains(new Task("tidy up", 9)), is(true));
    }

    @Test
    void givesTheLeastFirst() {
        BinaryHeap<Integer> heap = BinaryHeap.of(List.of(5, 1, 4));
        assertThat(heap.peek(), is(1));
        assertThat(heap.poll(), is(1));
        assertThat(heap.poll(), is(4));
        assertThat(heap.size(), is(1));
        assertThat(heap.peek(), is(not(4)));
    }

    @Test
    void drainsInOrder() {
        BinaryHeap<Integer> heap = BinaryHeap.of(List.of(9, 3, 7, 3, 8, 1, 0));
        List<Integer> sorted = heap.drain();
        assertThat(sorted, contains(0, 1, 3, 3, 7, 8, 9));
        assertThat(sorted, hasSize(7));
        assertThat(heap.isEmpty(), is(true));
        assertThat(heap.drain(), is(empty()));
    }

    @Test
    void usesAComparator() {
        BinaryHeap<String> heap = new BinaryHeap<>(Comparator.comparing(String::length).reversed());
        heap.add("bb");
        heap.add("dddd");
        heap.add("a");
        assertThat(heap.peek(), equalTo("dddd"));
        assertThat(heap.remove(), is("dddd"));
        assertThat(heap.drain(), contains("bb", "a"));
    }

    @Test
    void isEmptyAtFirst() {
        BinaryHeap<String> heap = BinaryHeap.natural();
        assertThat(heap.peek(), is(nullValue()));
        assertThat(heap.poll(), nullValue());
        assertThat(heap.size(), is(0));
        assertThrows(NoSuchElementException.class, heap::remove);
    }

    @Test
    void pushesAndPops() {
        BinaryHeap<Integer> heap = BinaryHeap.of(List.of(10, 20));
        assertThat(heap.pushPop(5), is(5));
        assertThat(heap.pushPop(15), is(10));
        assertThat(heap.peek(), greaterThan(14));
        assertThat(heap.size(), equalTo(2));
    }

    @Test
    void looksForElements() {
        BinaryHeap<Integer> heap = BinaryHeap.natural();
        heap.addAll(List.of(2, 4, 6));
        assertThat(heap.contains(4), is(true));
        assertThat(heap.contains(5), is(false));
        assertThat("after a poll", heap.poll(), lessThan(3));
    }

    @Test
    void neverPollsOutOfOrder() {
        BinaryHeap<Integer> heap = BinaryHeap.natural();
        for (int i = 0; i < 50; i++) {
            heap.add(i * 37 % 50);
        }
        for (int i = 0; i < 50; i++) {
            assertThat(heap.poll(), is(i));
        }
    }

    @Test
    void rejectsNull() {
        BinaryHeap<String> heap = BinaryHeap.natural();
        assertThrows(NullPointerException.class, () -> heap.add(null));
        assertThrows(NullPointerException.class, () -> new BinaryHeap<String>(null));
    }
}
