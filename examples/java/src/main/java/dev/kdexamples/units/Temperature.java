// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.units;

import java.util.Locale;

/** A temperature, kept in kelvin. */
public final class Temperature implements Comparable<Temperature> {

    /** A scale on which temperatures are given. */
    public enum Scale {
        CELSIUS("\u00b0C"), FAHRENHEIT("\u00b0F"), KELVIN("K");

        private final String symbol;

        Scale(String symbol) {
            this.symbol = symbol;
        }

        public String symbol() {
            return symbol;
        }
    }

    private static final double OFFSET = 273.15;

    private final double kelvin;

    private Temperature(double kelvin) {
        if (Double.isNaN(kelvin) || kelvin < 0) {
            throw new IllegalArgumentException("below absolute zero: " + kelvin + " K");
        }
        this.kelvin = kelvin;
    }

    public static Temperature of(double value, Scale scale) {
        return new Temperature(switch (scale) {
            case CELSIUS -> value + OFFSET;
            case FAHRENHEIT -> (value - 32) * 5 / 9 + OFFSET;
            case KELVIN -> value;
        });
    }

    public static Temperature celsius(double value) {
        return of(value, Scale.CELSIUS);
    }

    public static Temperature fahrenheit(double value) {
        return of(value, Scale.FAHRENHEIT);
    }

    public static Temperature kelvin(double value) {
        return of(value, Scale.KELVIN);
    }

    /** Parses text such as {@code "21.5 C"} or {@code "70F"}. */
    public static Temperature parse(String text) {
        String trimmed = text.trim();
        if (trimmed.length() < 2) {
            throw new IllegalArgumentException("not a temperature: " + text);
        }
        double value = Double.parseDouble(trimmed.substring(0, trimmed.length() - 1).trim());
        return switch (trimmed.charAt(trimmed.length() - 1)) {
            case 'C' -> celsius(value);
            case 'F' -> fahrenheit(value);
            case 'K' -> kelvin(value);
            default -> throw new IllegalArgumentException("unknown scale: " + text);
        };
    }

    public double get(Scale scale) {
        return switch (scale) {
            case CELSIUS -> kelvin - OFFSET;
            case FAHRENHEIT -> (kelvin - OFFSET) * 9 / 5 + 32;
            case KELVIN -> kelvin;
        };
    }

    public double toCelsius() {
        return get(Scale.CELSIUS);
    }

    public double toFahrenheit() {
        return get(Scale.FAHRENHEIT);
    }

    public double toKelvin() {
        return kelvin;
    }

    /** A temperature that is warmer by a number of kelvins, or colder for a negative one. */
    public Temperature plusKelvins(double difference) {
        return new Temperature(kelvin + difference);
    }

    public boolean isWarmerThan(Temperature other) {
        return compareTo(other) > 0;
    }

    /** Whether water freezes at this temperature. */
    public boolean isFreezing() {
        return kelvin <= OFFSET;
    }

    /** The temperature with one decimal and the symbol of a scale. */
    public String format(Scale scale) {
        return String.format(Locale.ROOT, "%.1f %s", get(scale), scale.symbol());
    }

    @Override
    public int compareTo(Temperature other) {
        return Double.compare(kelvin, other.kelvin);
    }

    @Override
    public boolean equals(Object object) {
        return object instanceof Temperature other && compareTo(other) == 0;
    }

    @Override
    public int hashCode() {
        return Double.hashCode(kelvin);
    }

    @Override
    public String toString() {
        return format(Scale.CELSIUS);
    }
}
