// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.time;

import java.time.DayOfWeek;
import java.time.LocalDate;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/** A range of calendar days; both ends belong to it. */
public record DateRange(LocalDate start, LocalDate end) {

    public DateRange {
        Objects.requireNonNull(start, "start");
        Objects.requireNonNull(end, "end");
        if (end.isBefore(start)) {
            throw new IllegalArgumentException("end " + end + " is before start " + start);
        }
    }

    /** Parses two ISO dates. */
    public static DateRange of(String start, String end) {
        return new DateRange(LocalDate.parse(start), LocalDate.parse(end));
    }

    /** All days of one month. */
    public static DateRange ofMonth(int year, int month) {
        LocalDate first = LocalDate.of(year, month, 1);
        return new DateRange(first, first.withDayOfMonth(first.lengthOfMonth()));
    }

    /** The number of days, at least one. */
    public long length() {
        return ChronoUnit.DAYS.between(start, end) + 1;
    }

    public boolean contains(LocalDate day) {
        return !day.isBefore(start) && !day.isAfter(end);
    }

    public boolean contains(DateRange other) {
        return contains(other.start) && contains(other.end);
    }

    public boolean overlaps(DateRange other) {
        return !other.end.isBefore(start) && !other.start.isAfter(end);
    }

    /** Whether the other range starts on the day after this one ends, or the other way round. */
    public boolean touches(DateRange other) {
        return end.plusDays(1).equals(other.start) || other.end.plusDays(1).equals(start);
    }

    /** The days in both ranges, if any. */
    public Optional<DateRange> intersection(DateRange other) {
        if (!overlaps(other)) {
            return Optional.empty();
        }
        LocalDate from = start.isAfter(other.start) ? start : other.start;
        LocalDate to = end.isBefore(other.end) ? end : other.end;
        return Optional.of(new DateRange(from, to));
    }

    /** The smallest range that covers both. */
    public DateRange span(DateRange other) {
        LocalDate from = start.isBefore(other.start) ? start : other.start;
        LocalDate to = end.isAfter(other.end) ? end : other.end;
        return new DateRange(from, to);
    }

    /** The same number of days, moved. */
    public DateRange shift(long days) {
        return new DateRange(start.plusDays(days), end.plusDays(days));
    }

    /** The number of days from Monday to Friday. */
    public int weekdays() {
        int count = 0;
        for (LocalDate day : days()) {
            if (day.getDayOfWeek() != DayOfWeek.SATURDAY && day.getDayOfWeek() != DayOfWeek.SUNDAY) {
                count++;
            }
        }
        return count;
    }

    /** Each day in order. */
    public List<LocalDate> days() {
        List<LocalDate> days = new ArrayList<>();
        for (LocalDate day = start; !day.isAfter(end); day = day.plusDays(1)) {
            days.add(day);
        }
        return days;
    }

    @Override
    public String toString() {
        return start + "/" + end;
    }
}
