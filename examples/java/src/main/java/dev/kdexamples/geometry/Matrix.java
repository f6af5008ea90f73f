// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.geometry;

import java.util.Arrays;
import java.util.Objects;

/** A matrix of doubles that does not change. */
public final class Matrix {

    private final double[][] cells;

    private Matrix(double[][] cells) {
        this.cells = cells;
    }

    /** A matrix from its rows, which must have the same length. */
    public static Matrix of(double[]... rows) {
        if (rows.length == 0 || rows[0].length == 0) {
            throw new IllegalArgumentException("a matrix needs at least one cell");
        }
        double[][] cells = new double[rows.length][];
        for (int i = 0; i < rows.length; i++) {
            if (rows[i].length != rows[0].length) {
                throw new IllegalArgumentException("row " + i + " has another length than row 0");
            }
            cells[i] = rows[i].clone();
        }
        return new Matrix(cells);
    }

    public static Matrix identity(int size) {
        double[][] cells = new double[size][size];
        for (int i = 0; i < size; i++) {
            cells[i][i] = 1;
        }
        return of(cells);
    }

    public int rows() {
        return cells.length;
    }

    public int columns() {
        return cells[0].length;
    }

    public double get(int row, int column) {
        Objects.checkIndex(row, rows());
        Objects.checkIndex(column, columns());
        return cells[row][column];
    }

    /** A copy of one row. */
    public double[] row(int row) {
        return cells[Objects.checkIndex(row, rows())].clone();
    }

    public boolean isSquare() {
        return rows() == columns();
    }

    public Matrix plus(Matrix other) {
        if (rows() != other.rows() || columns() != other.columns()) {
            throw new IllegalArgumentException("sizes differ");
        }
        double[][] sum = new double[rows()][columns()];
        for (int i = 0; i < rows(); i++) {
            for (int j = 0; j < columns(); j++) {
                sum[i][j] = cells[i][j] + other.cells[i][j];
            }
        }
        return new Matrix(sum);
    }

    public Matrix times(double factor) {
        double[][] product = new double[rows()][columns()];
        for (int i = 0; i < rows(); i++) {
            for (int j = 0; j < columns(); j++) {
                product[i][j] = cells[i][j] * factor;
            }
        }
        return new Matrix(product);
    }

    public Matrix times(Matrix other) {
        if (columns() != other.rows()) {
            throw new IllegalArgumentException(
                    columns() + " columns do not fit " + other.rows() + " rows");
        }
        double[][] product = new double[rows()][other.columns()];
        for (int i = 0; i < rows(); i++) {
            for (int j = 0; j < other.columns(); j++) {
                for (int k = 0; k < columns(); k++) {
                    product[i][j] += cells[i][k] * other.cells[k][j];
                }
            }
        }
        return new Matrix(product);
    }

    public Matrix transpose() {
        double[][] flipped = new double[columns()][rows()];
        for (int i = 0; i < rows(); i++) {
            for (int j = 0; j < columns(); j++) {
                flipped[j][i] = cells[i][j];
            }
        }
        return new Matrix(flipped);
    }

    /** The sum of the diagonal. */
    public double trace() {
        requireSquare();
        double sum = 0;
        for (int i = 0; i < rows(); i++) {
            sum += cells[i][i];
        }
        return sum;
    }

    /** The determinant, by expansion along the first row; meant for small matrices. */
    public double determinant() {
        requireSquare();
        if (rows() == 1) {
            return cells[0][0];
        }
        double sum = 0;
        for (int j = 0; j < columns(); j++) {
            double sign = j % 2 == 0 ? 1 : -1;
            sum += sign * cells[0][j] * minor(j).determinant();
        }
        return sum;
    }

    private Matrix minor(int column) {
        double[][] rest = new double[rows() - 1][columns() - 1];
        for (int i = 1; i < rows(); i++) {
            for (int j = 0; j < columns(); j++) {
                if (j != column) {
                    rest[i - 1][j < column ? j : j - 1] = cells[i][j];
                }
            }
        }
        return new Matrix(rest);
    }

    private void requireSquare() {
        if (!isSquare()) {
            throw new IllegalStateException("not a square matrix: " + rows() + " x " + columns());
        }
    }

    @Override
    public boolean equals(Object object) {
        return object instanceof Matrix other && Arrays.deepEquals(cells, other.cells);
    }

    @Override
    public int hashCode() {
        return Arrays.deepHashCode(cells);
    }

    @Override
    public String toString() {
        return Arrays.deepToString(cells);
    }
}
