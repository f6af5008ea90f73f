// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.geometry;

/** A rectangle with sides along the axes, from its lower left corner. */
public record Rectangle(double x, double y, double width, double height) {

    public Rectangle {
        if (width < 0 || height < 0) {
            throw new IllegalArgumentException("sides must not be negative: " + width + " x " + height);
        }
    }

    /** The rectangle between two opposite corners, given in any order. */
    public static Rectangle between(Vector2 a, Vector2 b) {
        return new Rectangle(
                Math.min(a.x(), b.x()),
                Math.min(a.y(), b.y()),
                Math.abs(a.x() - b.x()),
                Math.abs(a.y() - b.y()));
    }

    /** A square. */
    public static Rectangle square(double x, double y, double side) {
        return new Rectangle(x, y, side, side);
    }

    public double right() {
        return x + width;
    }

    public double top() {
        return y + height;
    }

    public double area() {
        return width * height;
    }

    public double perimeter() {
        return 2 * (width + height);
    }

    public Vector2 center() {
        return new Vector2(x + width / 2, y + height / 2);
    }

    public boolean isSquare() {
        return width == height;
    }

    public boolean isEmpty() {
        return width == 0 || height == 0;
    }

    /** Whether a point lies inside or on the edge. */
    public boolean contains(double px, double py) {
        return px >= x && px <= right() && py >= y && py <= top();
    }

    public boolean contains(Vector2 point) {
        return contains(point.x(), point.y());
    }

    public boolean contains(Rectangle other) {
        return contains(other.x, other.y) && contains(other.right(), other.top());
    }

    /** Whether the two share more than an edge. */
    public boolean intersects(Rectangle other) {
        return x < other.right() && other.x < right() && y < other.top() && other.y < top();
    }

    /** The part in both, or null when they share at most an edge. */
    public Rectangle intersection(Rectangle other) {
        if (!intersects(other)) {
            return null;
        }
        double left = Math.max(x, other.x);
        double bottom = Math.max(y, other.y);
        return new Rectangle(
                left,
                bottom,
                Math.min(right(), other.right()) - left,
                Math.min(top(), other.top()) - bottom);
    }

    /** The smallest rectangle that covers both. */
    public Rectangle union(Rectangle other) {
        double left = Math.min(x, other.x);
        double bottom = Math.min(y, other.y);
        return new Rectangle(
                left,
                bottom,
                Math.max(right(), other.right()) - left,
                Math.max(top(), other.top()) - bottom);
    }

    public Rectangle translate(double dx, double dy) {
        return new Rectangle(x + dx, y + dy, width, height);
    }

    /** Moves each side outwards, or inwards for a negative margin. */
    public Rectangle grow(double margin) {
        return new Rectangle(x - margin, y - margin, width + 2 * margin, height + 2 * margin);
    }
}
