// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.time;

import static org.hamcrest.MatcherAssert.assertThat;
import static org.hamcrest.Matchers.equalTo;
import static org.hamcrest.Matchers.hasItem;
import static org.hamcrest.Matchers.hasSize;
import static org.hamcrest.Matchers.is;
import static org.hamcrest.Matchers.not;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.time.LocalDate;
import java.time.format.DateTimeParseException;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class DateRangeTest {

    private final DateRange march = DateRange.ofMonth(2024, 3);

    @Test
    void measuresItsLength() {
        assertThat(march.length(), is(31L));
        assertThat(DateRange.ofMonth(2024, 2).length(), is(29L));
        assertThat(DateRange.of("2024-01-01", "2024-01-01").length(), equalTo(1L));
    }

    @Test
    void containsDays() {
        assertThat(march.contains(LocalDate.of(2024, 3, 1)), is(true));
        assertThat(march.contains(LocalDate.of(2024, 3, 31)), is(true));
        assertThat(march.contains(LocalDate.of(2024, 4, 1)), is(false));
    }

    @Test
    void containsRanges() {
        DateRange week = DateRange.of("2024-03-04", "2024-03-10");
        assertThat(march.contains(week), is(true));
        assertThat(week.contains(march), is(not(true)));
        assertThat(march.contains(week.shift(25)), is(false));
    }

    @Test
    void overlaps() {
        DateRange easter = DateRange.of("2024-03-29", "2024-04-01");
        assertThat(march.overlaps(easter), is(true));
        assertThat(easter.overlaps(march), is(true));
        assertThat(march.overlaps(DateRange.ofMonth(2024, 4)), is(false));
        assertThat(march.touches(DateRange.ofMonth(2024, 4)), is(true));
        assertThat(march.touches(easter), is(false));
    }

    @Test
    void intersects() {
        DateRange easter = DateRange.of("2024-03-29", "2024-04-01");
        Optional<DateRange> common = march.intersection(easter);
        assertThat(common.isPresent(), is(true));
        assertThat(common.get(), equalTo(DateRange.of("2024-03-29", "2024-03-31")));
        assertThat(march.intersection(DateRange.ofMonth(2023, 3)), is(Optional.empty()));
    }

    @Test
    void spansBoth() {
        DateRange may = DateRange.ofMonth(2024, 5);
        assertThat(march.span(may), equalTo(DateRange.of("2024-03-01", "2024-05-31")));
        assertThat(may.span(march), is(march.span(may)));
    }

    @Test
    void countsWeekdays() {
        assertThat(march.weekdays(), is(21));
        assertThat(DateRange.of("2024-03-09", "2024-03-10").weekdays(), is(0));
        assertThat("from Monday to Sunday", DateRange.of("2024-03-04", "2024-03-10").weekdays(), is(5));
    }

    @Test
    void listsDays() {
        DateRange range = DateRange.of("2023-12-31", "2024-01-01");
        List<LocalDate> days = range.days();
        assertThat(days, hasSize(2));
        assertThat(days, hasItem(LocalDate.of(2024, 1, 1)));
        assertThat(range.toString(), is("2023-12-31/2024-01-01"));
    }

    @Test
    void rejectsBadArguments() {
        assertThrows(IllegalArgumentException.class, () -> DateRange.of("2024-01-02", "2024-01-01"));
        assertThrows(DateTimeParseException.class, () -> DateRange.of("2024-1-2", "2024-01-03"));
        assertThrows(NullPointerException.class, () -> new DateRange(null, LocalDate.MAX));
    }
}
