// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.units;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.kdexamples.units.Temperature.Scale;
import org.junit.jupiter.api.Test;

class TemperatureTest {

    private static final double DELTA = 1e-9;

    @Test
    void convertsBetweenScales() {
        Temperature boiling = Temperature.celsius(100);
        assertEquals(212.0, boiling.toFahrenheit(), DELTA);
        assertEquals(373.15, boiling.toKelvin(), DELTA);
        assertEquals(100.0, boiling.toCelsius(), DELTA);
        assertEquals(212.0, boiling.get(Scale.FAHRENHEIT), DELTA);
    }

    @Test
    void meetsAtFortyBelow() {
        double celsius = Temperature.fahrenheit(-40).toCelsius();
        assertEquals(-40.0, celsius, DELTA, "both scales agree here");
        assertEquals(-40.0, Temperature.celsius(-40).toFahrenheit(), DELTA);
    }

    @Test
    void parses() {
        assertEquals(Temperature.celsius(21.5), Temperature.parse("21.5 C"));
        assertEquals(Temperature.fahrenheit(70), Temperature.parse("70F"));
        assertEquals(Temperature.kelvin(0), Temperature.parse(" 0K "));
        assertThrows(IllegalArgumentException.class, () -> Temperature.parse("20 X"));
        assertThrows(NumberFormatException.class, () -> Temperature.parse("warm C"));
        assertThrows(IllegalArgumentException.class, () -> Temperature.parse("C"));
    }

    @Test
    void formats() {
        Temperature room = Temperature.celsius(20.04);
        assertEquals("20.0 \u00b0C", room.toString());
        assertEquals("68.1 \u00b0F", room.format(Scale.FAHRENHEIT));
        assertEquals("293.2 K", room.format(Scale.KELVIN));
        assertEquals("K", Scale.KELVIN.symbol());
    }

    @Test
    void compares() {
        Temperature cold = Temperature.celsius(-5);
        Temperature warm = Temperature.fahrenheit(60);
        assertTrue(warm.isWarmerThan(cold));
        assertFalse(cold.isWarmerThan(warm));
        assertFalse(cold.isWarmerThan(cold));
        assertTrue(cold.compareTo(warm) < 0);
        assertNotEquals(cold, warm);
    }

    @Test
    void knowsFrost() {
        assertTrue(Temperature.celsius(0).isFreezing());
        assertTrue(Temperature.fahrenheit(0).isFreezing());
        assertFalse(Temperature.celsius(0.1).isFreezing());
    }

    @Test
    void warmsUp() {
        Temperature start = Temperature.kelvin(280);
        Temperature end = start.plusKelvins(15);
        assertEquals(295.0, end.toKelvin(), DELTA);
        assertEquals(Temperature.kelvin(270), start.plusKelvins(-10));
        assertEquals(start.hashCode(), end.plusKelvins(-15).hashCode());
        assertInstanceOf(Comparable.class, end);
    }

    @Test
    void rejectsWhatIsTooCold() {
        assertThrows(IllegalArgumentException.class, () -> Temperature.kelvin(-0.1));
        assertThrows(IllegalArgumentException.class, () -> Temperature.celsius(-274));
        assertThrows(IllegalArgumentException.class, () -> Temperature.kelvin(1).plusKelvins(-2));
        assertThrows(IllegalArgumentException.class, () -> Temperature.of(Double.NaN, Scale.KELVIN));
        assertDoesNotThrow(() -> Temperature.kelvin(0));
    }
}
