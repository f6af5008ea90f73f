// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.geometry;

/** A vector, or a point, in the plane. */
public record Vector2(double x, double y) {

    /** The vector of length zero. */
    public static final Vector2 ZERO = new Vector2(0, 0);

    public Vector2 {
        if (!Double.isFinite(x) || !Double.isFinite(y)) {
            throw new IllegalArgumentException("coordinates must be finite");
        }
    }

    /** A vector from a length and an angle in radians. */
    public static Vector2 polar(double length, double angle) {
        if (length < 0) {
            throw new IllegalArgumentException("length must not be negative: " + length);
        }
        return new Vector2(length * Math.cos(angle), length * Math.sin(angle));
    }

    public Vector2 plus(Vector2 other) {
        return new Vector2(x + other.x, y + other.y);
    }

    public Vector2 minus(Vector2 other) {
        return new Vector2(x - other.x, y - other.y);
    }

    public Vector2 scale(double factor) {
        return new Vector2(x * factor, y * factor);
    }

    public Vector2 negate() {
        return new Vector2(0 - x, 0 - y);
    }

    public double dot(Vector2 other) {
        return x * other.x + y * other.y;
    }

    /** The third component of the cross product: positive when the other vector lies to the left. */
    public double cross(Vector2 other) {
        return x * other.y - y * other.x;
    }

    public double length() {
        return Math.hypot(x, y);
    }

    public double lengthSquared() {
        return dot(this);
    }

    /** A vector of length one in the same direction. */
    public Vector2 normalize() {
        double length = length();
        if (length == 0) {
            throw new ArithmeticException("the zero vector has no direction");
        }
        return new Vector2(x / length, y / length);
    }

    public double distanceTo(Vector2 other) {
        return minus(other).length();
    }

    /** The angle to the x axis in radians, from -pi to pi. */
    public double angle() {
        return Math.atan2(y, x);
    }

    /** The vector turned to the left by an angle in radians. */
    public Vector2 rotate(double angle) {
        double cos = Math.cos(angle);
        double sin = Math.sin(angle);
        return new Vector2(x * cos - y * sin, x * sin + y * cos);
    }

    /** The vector turned to the left by a right angle, without rounding. */
    public Vector2 perpendicular() {
        return new Vector2(0 - y, x);
    }

    /** The point on the way to another one; zero is this point and one is the other. */
    public Vector2 lerp(Vector2 other, double t) {
        return plus(other.minus(this).scale(t));
    }

    public boolean isParallelTo(Vector2 other) {
        return Math.abs(cross(other)) <= 1e-9 * Math.max(1.0, length() * other.length());
    }
}
