// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.maths;

import java.util.Arrays;
import java.util.Collection;
import java.util.Map;
import java.util.TreeMap;

/** Describes samples of numbers. */
public final class Statistics {

    private Statistics() {
    }

    public static double sum(double... values) {
        double sum = 0;
        for (double value : values) {
            sum += value;
        }
        return sum;
    }

    public static double mean(double... values) {
        requireValues(values, 1);
        return sum(values) / values.length;
    }

    public static double mean(Collection<? extends Number> values) {
        return mean(values.stream().mapToDouble(Number::doubleValue).toArray());
    }

    /** The middle value, or the mean of the two middle ones. */
    public static double median(double... values) {
        return percentile(50, values);
    }

    /** A percentile from 0 to 100, with linear interpolation between neighbours. */
    public static double percentile(double percent, double... values) {
        requireValues(values, 1);
        if (percent < 0 || percent > 100) {
            throw new IllegalArgumentException("not between 0 and 100: " + percent);
        }
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        double rank = percent / 100 * (sorted.length - 1);
        int below = (int) Math.floor(rank);
        int above = (int) Math.ceil(rank);
        return sorted[below] + (sorted[above] - sorted[below]) * (rank - below);
    }

    /** The variance of a whole population. */
    public static double variance(double... values) {
        double mean = mean(values);
        double squares = 0;
        for (double value : values) {
            squares += (value - mean) * (value - mean);
        }
        return squares / values.length;
    }

    /** The variance estimated from a sample of at least two values. */
    public static double sampleVariance(double... values) {
        requireValues(values, 2);
        return variance(values) * values.length / (values.length - 1);
    }

    public static double standardDeviation(double... values) {
        return Math.sqrt(variance(values));
    }

    public static double min(double... values) {
        requireValues(values, 1);
        return Arrays.stream(values).min().getAsDouble();
    }

    public static double max(double... values) {
        requireValues(values, 1);
        return Arrays.stream(values).max().getAsDouble();
    }

    public static double range(double... values) {
        return max(values) - min(values);
    }

    /** The values that occur most often, in ascending order. */
    public static double[] modes(double... values) {
        Map<Double, Integer> counts = new TreeMap<>();
        int most = 0;
        for (double value : values) {
            most = Math.max(most, counts.merge(value, 1, Integer::sum));
        }
        int wanted = most;
        return counts.entrySet().stream()
                .filter(entry -> entry.getValue() == wanted)
                .mapToDouble(Map.Entry::getKey)
                .toArray();
    }

    /** The correlation of two series of equal length, from -1 to 1. */
    public static double correlation(double[] left, double[] right) {
        if (left.length != right.length) {
            throw new IllegalArgumentException("lengths differ: " + left.length + " and " + right.length);
        }
        double meanLeft = mean(left);
        double meanRight = mean(right);
        double products = 0;
        for (int i = 0; i < left.length; i++) {
            products += (left[i] - meanLeft) * (right[i] - meanRight);
        }
        double scale = standardDeviation(left) * standardDeviation(right) * left.length;
        if (scale == 0) {
            throw new ArithmeticException("a constant series has no correlation");
        }
        return products / scale;
    }

    private static void requireValues(double[] values, int least) {
        if (values.length < least) {
            throw new IllegalArgumentException("at least " + least + " values are needed");
        }
    }
}
