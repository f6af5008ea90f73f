// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.geometry;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class RectangleTest {

    private final Rectangle field = new Rectangle(0, 0, 4, 3);

    @Test
    void measures() {
        assertEquals(12.0, field.area());
        assertEquals(14.0, field.perimeter());
        assertEquals(4.0, field.right());
        assertEquals(3.0, field.top());
        assertEquals(new Vector2(2, 1.5), field.center());
    }

    @Test
    void knowsItsShape() {
        assertFalse(field.isSquare());
        assertTrue(Rectangle.square(1, 1, 5).isSquare());
        assertFalse(field.isEmpty());
        assertTrue(new Rectangle(1, 1, 0, 7).isEmpty());
    }

    @Test
    void liesBetweenCorners() {
        Rectangle rectangle = Rectangle.between(new Vector2(5, 1), new Vector2(2, 3));
        assertEquals(new Rectangle(2, 1, 3, 2), rectangle);
        assertEquals(rectangle, Rectangle.between(new Vector2(2, 3), new Vector2(5, 1)));
    }

    @Test
    void containsPoints() {
        assertTrue(field.contains(1, 1));
        assertTrue(field.contains(4, 3), "the edge belongs to it");
        assertFalse(field.contains(4.01, 3));
        assertFalse(field.contains(new Vector2(-1, 0)));
    }

    @Test
    void containsRectangles() {
        assertTrue(field.contains(new Rectangle(1, 1, 2, 2)));
        assertTrue(field.contains(field));
        assertFalse(field.contains(field.translate(0.5, 0)));
    }

    @Test
    void intersects() {
        Rectangle other = new Rectangle(3, 2, 4, 4);
        assertTrue(field.intersects(other));
        assertEquals(new Rectangle(3, 2, 1, 1), field.intersection(other));
        assertFalse(field.intersects(new Rectangle(4, 0, 1, 1)));
        assertNull(field.intersection(new Rectangle(10, 10, 1, 1)));
        assertNotNull(other.intersection(field));
    }

    @Test
    void unites() {
        Rectangle other = new Rectangle(-1, 1, 1, 5);
        assertEquals(new Rectangle(-1, 0, 5, 6), field.union(other));
        assertEquals(field.union(other), other.union(field));
    }

    @Test
    void movesAndGrows() {
        Rectangle moved = field.translate(1, -1);
        assertEquals(1.0, moved.x());
        assertEquals(-1.0, moved.y());
        assertEquals(field.area(), moved.area(), 1e-12);
        assertEquals(new Rectangle(-1, -1, 6, 5), field.grow(1));
        assertThrows(IllegalArgumentException.class, () -> field.grow(-2));
        assertThrows(IllegalArgumentException.class, () -> new Rectangle(0, 0, -1, 1));
    }

    @Test
    void canBePrinted() {
        field.toString();
        field.grow(0.5).toString();
    }
}
