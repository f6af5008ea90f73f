// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.geometry;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class MatrixTest {

    private final Matrix square = Matrix.of(new double[] {1, 2}, new double[] {3, 4});
    private final Matrix wide = Matrix.of(new double[] {1, 0, 2}, new double[] {0, 1, 3});

    @Test
    void knowsItsSize() {
        assertEquals(2, wide.rows());
        assertEquals(3, wide.columns());
        assertTrue(square.isSquare());
        assertFalse(wide.isSquare());
    }

    @Test
    void givesCellsAndRows() {
        assertEquals(3.0, square.get(1, 0));
        assertArrayEquals(new double[] {1, 0, 2}, wide.row(0));
        double[] row = square.row(0);
        row[0] = 99;
        assertEquals(1.0, square.get(0, 0), "a row is a copy");
        assertThrows(IndexOutOfBoundsException.class, () -> square.get(0, 2));
        assertThrows(IndexOutOfBoundsException.class, () -> square.row(-1));
    }

    @Test
    void adds() {
        Matrix sum = square.plus(Matrix.identity(2));
        assertEquals(Matrix.of(new double[] {2, 2}, new double[] {3, 5}), sum);
        assertArrayEquals(new double[] {2, 2}, sum.row(0), 1e-12);
        assertThrows(IllegalArgumentException.class, () -> square.plus(wide));
    }

    @Test
    void multiplies() {
        assertEquals(square, square.times(Matrix.identity(2)));
        assertEquals(Matrix.of(new double[] {7, 10}, new double[] {15, 22}), square.times(square));
        assertArrayEquals(new double[] {1, 2, 8}, square.times(wide).row(0), 1e-12);
        assertThrows(IllegalArgumentException.class, () -> wide.times(square));
    }

    @Test
    void scales() {
        Matrix doubled = square.times(2);
        assertEquals(8.0, doubled.get(1, 1));
        assertEquals(square.plus(square), doubled);
        assertNotEquals(square, doubled);
    }

    @Test
    void transposes() {
        Matrix tall = wide.transpose();
        assertEquals(3, tall.rows());
        assertArrayEquals(new double[] {2, 3}, tall.row(2));
        assertEquals(wide, tall.transpose());
        assertNotSame(wide, tall.transpose());
    }

    @Test
    void hasADeterminant() {
        assertEquals(-2.0, square.determinant(), 1e-12);
        assertEquals(1.0, Matrix.identity(4).determinant(), 1e-12);
        Matrix three = Matrix.of(
                new double[] {2, 0, 1},
                new double[] {1, 3, 2},
                new double[] {1, 1, 1});
        assertEquals(0.0, three.determinant(), 1e-12);
        assertEquals(6.0, three.trace(), 1e-12);
        assertThrows(IllegalStateException.class, wide::determinant);
        assertThrows(IllegalStateException.class, () -> wide.trace());
    }

    @Test
    void comparesAndPrints() {
        Matrix same = Matrix.of(new double[] {1, 2}, new double[] {3, 4});
        assertEquals(square, same);
        assertEquals(square.hashCode(), same.hashCode());
        assertEquals("[[1.0, 2.0], [3.0, 4.0]]", square.toString());
    }

    @Test
    void rejectsBadArguments() {
        assertThrows(IllegalArgumentException.class, () -> Matrix.of());
        assertThrows(IllegalArgumentException.class, () -> Matrix.of(new double[] {1}, new double[] {1, 2}));
        assertThrows(IllegalArgumentException.class, () -> Matrix.identity(0));
    }
}
