// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.geometry;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;

class PolygonTest {

    private static final double DELTA = 1e-9;

    private final Polygon triangle = Polygon.of(0, 0, 4, 0, 0, 3);
    private final Polygon arrow = Polygon.of(0, 0, 4, 0, 1, 1, 0, 4);

    @Test
    void measures() {
        assertEquals(6.0, triangle.area(), DELTA);
        assertEquals(12.0, triangle.perimeter(), DELTA);
        assertEquals(3, triangle.size());
        assertEquals(4.0, arrow.area(), DELTA);
    }

    @Test
    void knowsItsDirection() {
        assertFalse(triangle.isClockwise());
        assertTrue(triangle.reversed().isClockwise());
        assertEquals(6.0, triangle.signedArea(), DELTA);
        assertEquals(-6.0, triangle.reversed().signedArea(), DELTA);
        assertEquals(triangle.area(), triangle.reversed().area(), DELTA);
    }

    @Test
    void knowsItsShape() {
        assertTrue(triangle.isConvex());
        assertFalse(arrow.isConvex());
        assertTrue(Polygon.regular(7, 1).isConvex());
    }

    @Test
    void findsTheCentre() {
        Vector2 centre = triangle.centroid();
        assertEquals(4.0 / 3, centre.x(), DELTA);
        assertEquals(1.0, centre.y(), DELTA);
        assertEquals(0.0, Polygon.regular(6, 2).centroid().length(), DELTA);
        assertThrows(ArithmeticException.class, () -> Polygon.of(0, 0, 1, 1, 2, 2).centroid());
    }

    @Test
    void containsPoints() {
        assertTrue(triangle.contains(new Vector2(1, 1)));
        assertFalse(triangle.contains(new Vector2(3, 3)));
        assertFalse(arrow.contains(new Vector2(2, 2)));
        assertTrue(arrow.contains(new Vector2(0.2, 3)));
    }

    @Test
    void hasABoundingBox() {
        assertEquals(new Rectangle(0, 0, 4, 3), triangle.boundingBox());
        Rectangle box = Polygon.of(-1, 0, 0, -2, 5, 0, 0, 2).boundingBox();
        assertEquals(-2.0, box.y(), DELTA);
        assertEquals(24.0, box.area(), DELTA);
    }

    @Test
    void wrapsCornerIndices() {
        assertEquals(new Vector2(4, 0), triangle.corner(1));
        assertEquals(triangle.corner(0), triangle.corner(3));
        assertEquals(triangle.corner(2), triangle.corner(-1));
        assertSame(triangle.corner(1), triangle.corner(4));
    }

    @Test
    void comesNearACircle() {
        Polygon many = Polygon.regular(1000, 1);
        double area = many.area();
        assertEquals(Math.PI, area, 1e-4);
        assertEquals(2 * Math.PI, many.perimeter(), 1e-4, "perimeter of the unit circle");
    }

    @Test
    void rejectsBadArguments() {
        assertThrows(IllegalArgumentException.class, () -> Polygon.of(0, 0, 1, 1));
        assertThrows(IllegalArgumentException.class, () -> Polygon.of(0, 0, 1, 1, 2));
        assertThrows(IllegalArgumentException.class, () -> new Polygon(List.of()));
    }
}
