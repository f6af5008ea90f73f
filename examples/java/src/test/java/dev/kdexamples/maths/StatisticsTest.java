// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.maths;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;

class StatisticsTest {

    private static final double DELTA = 1e-9;

    private final double[] sample = {2, 4, 4, 4, 5, 5, 7, 9};

    @Test
    void sumsUp() {
        assertEquals(40.0, Statistics.sum(sample), DELTA);
        assertEquals(0.0, Statistics.sum(), DELTA);
        assertEquals(6.0, Statistics.sum(1, 2, 3));
    }

    @Test
    void averages() {
        List<Integer> list = List.of(1, 2, 3, 4);
        assertEquals(5.0, Statistics.mean(sample), DELTA);
        assertEquals(2.5, Statistics.mean(list), DELTA);
        assertThrows(IllegalArgumentException.class, () -> Statistics.mean());
    }

    @Test
    void findsTheMiddle() {
        assertEquals(4.5, Statistics.median(sample), DELTA);
        assertEquals(2.0, Statistics.median(3, 1, 2), DELTA);
        assertEquals(7.0, Statistics.median(7), DELTA);
        assertArrayEquals(new double[] {2, 4, 4, 4, 5, 5, 7, 9}, sample);
    }

    @Test
    void interpolatesPercentiles() {
        assertEquals(10.0, Statistics.percentile(0, 30, 10, 20), DELTA);
        assertEquals(30.0, Statistics.percentile(100, 30, 10, 20), DELTA);
        assertEquals(15.0, Statistics.percentile(25, 30, 10, 20), DELTA);
        assertThrows(IllegalArgumentException.class, () -> Statistics.percentile(101, 1.0));
    }

    @Test
    void measuresSpread() {
        double variance = Statistics.variance(sample);
        double deviation = Statistics.standardDeviation(sample);
        assertEquals(4.0, variance, DELTA);
        assertEquals(2.0, deviation, DELTA);
        assertEquals(32.0 / 7, Statistics.sampleVariance(sample), DELTA);
        assertEquals(0.0, Statistics.variance(3, 3, 3), DELTA, "no spread");
        assertThrows(IllegalArgumentException.class, () -> Statistics.sampleVariance(1));
    }

    @Test
    void findsExtremes() {
        assertEquals(2.0, Statistics.min(sample));
        assertEquals(9.0, Statistics.max(sample));
        assertEquals(7.0, Statistics.range(sample), DELTA);
        assertThrows(IllegalArgumentException.class, () -> Statistics.max());
    }

    @Test
    void findsModes() {
        assertArrayEquals(new double[] {4}, Statistics.modes(sample));
        assertArrayEquals(new double[] {1, 2}, Statistics.modes(2, 1, 2, 1, 3), DELTA);
        assertEquals(0, Statistics.modes().length);
    }

    @Test
    void correlates() {
        double[] up = {1, 2, 3, 4};
        double[] down = {8, 6, 4, 2};
        assertEquals(1.0, Statistics.correlation(up, up), DELTA);
        assertEquals(-1.0, Statistics.correlation(up, down), DELTA);
        assertTrue(Math.abs(Statistics.correlation(up, new double[] {1, -1, -1, 1})) < DELTA);
        assertThrows(IllegalArgumentException.class, () -> Statistics.correlation(up, sample));
        assertThrows(
                ArithmeticException.class,
                () -> Statistics.correlation(up, new double[] {5, 5, 5, 5}),
                "a constant series");
    }
}
