// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.units;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.time.Duration;
import org.junit.jupiter.api.Test;

class DurationFormatTest {

    @Test
    void writesTheCompactForm() {
        assertEquals("1h 5m 3s", DurationFormat.compact(3903));
        assertEquals("2d", DurationFormat.compact(172_800));
        assertEquals("1d 1s", DurationFormat.compact(86_401));
        assertEquals("0s", DurationFormat.compact(0));
        assertEquals("1m 30s", DurationFormat.compact(Duration.ofMillis(90_500)));
    }

    @Test
    void writesAClock() {
        assertEquals("01:05:03", DurationFormat.clock(3903));
        assertEquals("00:00:59", DurationFormat.clock(59));
        assertEquals("100:00:00", DurationFormat.clock(360_000), "hours may go on");
    }

    @Test
    void writesWords() {
        assertEquals("1 second", DurationFormat.words(1));
        assertEquals("0 seconds", DurationFormat.words(0));
        assertEquals("3 minutes", DurationFormat.words(239));
        assertEquals("1 hour", DurationFormat.words(3600));
        assertEquals("2 days", DurationFormat.words(200_000));
    }

    @Test
    void readsTheCompactForm() {
        long seconds = DurationFormat.parse("1h 5m 3s");
        assertEquals(3903L, seconds);
        assertEquals(0L, DurationFormat.parse("0s"));
        assertEquals(90_000L, DurationFormat.parse(" 1d  1h "));
        assertEquals(5400L, DurationFormat.parse("90m"));
    }

    @Test
    void readsAClock() {
        assertEquals(3903L, DurationFormat.parseClock("01:05:03"));
        assertEquals(90L, DurationFormat.parseClock("1:30"));
        assertEquals(6000L, DurationFormat.parseClock("100:00"));
        assertThrows(IllegalArgumentException.class, () -> DurationFormat.parseClock("5"));
        assertThrows(IllegalArgumentException.class, () -> DurationFormat.parseClock("1:60"));
        assertThrows(NumberFormatException.class, () -> DurationFormat.parseClock("a:b"));
    }

    @Test
    void readsWhatItWrites() {
        for (long seconds = 0; seconds < 200_000; seconds += 997) {
            assertEquals(seconds, DurationFormat.parse(DurationFormat.compact(seconds)));
            assertEquals(seconds, DurationFormat.parseClock(DurationFormat.clock(seconds)));
        }
    }

    @Test
    void knowsUnits() {
        assertEquals(1L, DurationFormat.secondsIn('s'));
        assertEquals(86_400L, DurationFormat.secondsIn('d'));
        assertThrows(IllegalArgumentException.class, () -> DurationFormat.secondsIn('y'));
    }

    @Test
    void rejectsBadArguments() {
        assertThrows(IllegalArgumentException.class, () -> DurationFormat.compact(-1));
        assertThrows(IllegalArgumentException.class, () -> DurationFormat.parse("5s 1m"));
        assertThrows(IllegalArgumentException.class, () -> DurationFormat.parse("1m 1m"));
        assertThrows(IllegalArgumentException.class, () -> DurationFormat.parse(""));
        IllegalArgumentException error =
                assertThrows(IllegalArgumentException.class, () -> DurationFormat.parse("soon (maybe)"));
        assertEquals("not a duration: soon (maybe)", error.getMessage());
    }
}
