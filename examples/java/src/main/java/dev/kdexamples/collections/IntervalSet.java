// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.collections;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** A set of whole numbers kept as disjoint half-open intervals. */
public final class IntervalSet {

    /** The numbers from start up to, but not including, end. */
    public record Interval(long start, long end) {

        public Interval {
            if (end <= start) {
                throw new IllegalArgumentException("empty interval: " + start + ".." + end);
            }
        }

        public long length() {
            return end - start;
        }

        @Override
        public String toString() {
            return "[" + start + "," + end + ")";
        }
    }

    private final TreeMap<Long, Long> intervals = new TreeMap<>();

    /** Adds an interval and joins it with those that it overlaps or touches. */
    public IntervalSet add(long start, long end) {
        return add(new Interval(start, end));
    }

    /** Adds an interval and joins it with those that it overlaps or touches. */
    public IntervalSet add(Interval interval) {
        long from = interval.start();
        long to = interval.end();
        Map.Entry<Long, Long> entry = intervals.floorEntry(to);
        while (entry != null && entry.getValue() >= from) {
            from = Math.min(from, entry.getKey());
            to = Math.max(to, entry.getValue());
            intervals.remove(entry.getKey());
            entry = intervals.floorEntry(to);
        }
        intervals.put(from, to);
        return this;
    }

    /** Removes all numbers of an interval. */
    public IntervalSet remove(long start, long end) {
        Interval hole = new Interval(start, end);
        for (Interval interval : intervals()) {
            if (interval.end() <= hole.start() || interval.start() >= hole.end()) {
                continue;
            }
            intervals.remove(interval.start());
            if (interval.start() < hole.start()) {
                intervals.put(interval.start(), hole.start());
            }
            if (interval.end() > hole.end()) {
                intervals.put(hole.end(), interval.end());
            }
        }
        return this;
    }

    public boolean contains(long number) {
        Map.Entry<Long, Long> entry = intervals.floorEntry(number);
        return entry != null && number < entry.getValue();
    }

    /** Whether every number of the interval belongs to the set. */
    public boolean containsAll(long start, long end) {
        Interval wanted = new Interval(start, end);
        Map.Entry<Long, Long> entry = intervals.floorEntry(wanted.start());
        return entry != null && wanted.end() <= entry.getValue();
    }

    /** The interval that holds the number, or null. */
    public Interval find(long number) {
        if (!contains(number)) {
            return null;
        }
        Map.Entry<Long, Long> entry = intervals.floorEntry(number);
        return new Interval(entry.getKey(), entry.getValue());
    }

    /** How many numbers the set holds. */
    public long totalLength() {
        return intervals().stream().mapToLong(Interval::length).sum();
    }

    /** How many disjoint intervals the set is made of. */
    public int count() {
        return intervals.size();
    }

    public boolean isEmpty() {
        return intervals.isEmpty();
    }

    /** A copy of the intervals in ascending order. */
    public List<Interval> intervals() {
        List<Interval> copy = new ArrayList<>();
        intervals.forEach((start, end) -> copy.add(new Interval(start, end)));
        return copy;
    }

    @Override
    public String toString() {
        return intervals().toString();
    }
}
