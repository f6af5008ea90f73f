// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.geometry;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class Vector2Test {

    private static final double DELTA = 1e-12;

    @Test
    void addsAndSubtracts() {
        Vector2 a = new Vector2(1, 2);
        Vector2 b = new Vector2(3, -1);
        assertEquals(new Vector2(4, 1), a.plus(b));
        assertEquals(new Vector2(-2, 3), a.minus(b));
        assertEquals(Vector2.ZERO, a.minus(a));
        assertEquals(new Vector2(-1, -2), a.negate());
    }

    @Test
    void scales() {
        Vector2 vector = new Vector2(1.5, -2);
        assertEquals(new Vector2(3, -4), vector.scale(2));
        assertEquals(2.5, vector.length(), DELTA);
        assertEquals(6.25, vector.lengthSquared(), DELTA);
        assertEquals(new Vector2(0, 0), Vector2.ZERO.negate());
    }

    @Test
    void multiplies() {
        Vector2 east = new Vector2(1, 0);
        Vector2 north = new Vector2(0, 1);
        assertEquals(0.0, east.dot(north), DELTA);
        assertEquals(1.0, east.cross(north), DELTA);
        assertEquals(-1.0, north.cross(east), DELTA, "the order matters");
    }

    @Test
    void normalizes() {
        Vector2 unit = new Vector2(3, 4).normalize();
        assertEquals(0.6, unit.x(), DELTA);
        assertEquals(0.8, unit.y(), DELTA);
        assertEquals(1.0, unit.length(), DELTA);
        assertThrows(ArithmeticException.class, () -> Vector2.ZERO.normalize());
    }

    @Test
    void turns() {
        Vector2 east = new Vector2(1, 0);
        Vector2 turned = east.rotate(Math.PI / 2);
        assertEquals(0.0, turned.x(), DELTA);
        assertEquals(1.0, turned.y(), DELTA);
        assertEquals(new Vector2(0, 1), east.perpendicular());
        assertEquals(Math.PI / 2, turned.angle(), DELTA);
    }

    @Test
    void measuresDistance() {
        Vector2 from = new Vector2(1, 1);
        Vector2 to = new Vector2(4, 5);
        assertEquals(5.0, from.distanceTo(to), DELTA);
        assertEquals(new Vector2(2.5, 3), from.lerp(to, 0.5));
        assertEquals(from, from.lerp(to, 0));
        assertEquals(to, from.lerp(to, 1));
    }

    @Test
    void knowsParallels() {
        Vector2 vector = new Vector2(2, 1);
        assertTrue(vector.isParallelTo(vector.scale(-3)));
        assertFalse(vector.isParallelTo(vector.perpendicular()));
        assertNotEquals(vector, vector.scale(2));
    }

    @Test
    void comesFromPolarCoordinates() {
        Vector2 vector = Vector2.polar(2, Math.PI);
        assertEquals(-2.0, vector.x(), DELTA);
        assertEquals(0.0, vector.y(), DELTA);
        assertThrows(IllegalArgumentException.class, () -> Vector2.polar(-1, 0));
        assertThrows(IllegalArgumentException.class, () -> new Vector2(Double.NaN, 0));
    }
}
