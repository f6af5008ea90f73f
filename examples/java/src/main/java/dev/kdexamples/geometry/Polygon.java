// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.geometry;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** A simple polygon given by its corners in order. */
public final class Polygon {

    private final List<Vector2> corners;

    public Polygon(List<Vector2> corners) {
        if (corners.size() < 3) {
            throw new IllegalArgumentException("at least 3 corners are needed: " + corners.size());
        }
        this.corners = List.copyOf(corners);
    }

    /** A polygon from coordinates x, y, x, y and so on. */
    public static Polygon of(double... coordinates) {
        if (coordinates.length % 2 != 0) {
            throw new IllegalArgumentException("a coordinate is missing");
        }
        List<Vector2> corners = new ArrayList<>();
        for (int i = 0; i < coordinates.length; i += 2) {
            corners.add(new Vector2(coordinates[i], coordinates[i + 1]));
        }
        return new Polygon(corners);
    }

    /** A regular polygon around the origin with its first corner on the x axis. */
    public static Polygon regular(int count, double radius) {
        List<Vector2> corners = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            corners.add(Vector2.polar(radius, 2 * Math.PI * i / count));
        }
        return new Polygon(corners);
    }

    public int size() {
        return corners.size();
    }

    /** A corner; indices beyond the last start again at the first. */
    public Vector2 corner(int index) {
        return corners.get(Math.floorMod(index, corners.size()));
    }

    /** The area with a sign: positive when the corners run against the clock. */
    public double signedArea() {
        double twice = 0;
        for (int i = 0; i < size(); i++) {
            twice += corner(i).cross(corner(i + 1));
        }
        return twice / 2;
    }

    public double area() {
        return Math.abs(signedArea());
    }

    public double perimeter() {
        double sum = 0;
        for (int i = 0; i < size(); i++) {
            sum += corner(i).distanceTo(corner(i + 1));
        }
        return sum;
    }

    public boolean isClockwise() {
        return signedArea() < 0;
    }

    /** Whether no corner turns the other way. */
    public boolean isConvex() {
        boolean left = false;
        boolean right = false;
        for (int i = 0; i < size(); i++) {
            Vector2 edge = corner(i + 1).minus(corner(i));
            Vector2 next = corner(i + 2).minus(corner(i + 1));
            double turn = edge.cross(next);
            left |= turn > 0;
            right |= turn < 0;
        }
        return !(left && right);
    }

    /** The centre of the area. */
    public Vector2 centroid() {
        double area = signedArea();
        if (area == 0) {
            throw new ArithmeticException("a polygon without area has no centroid");
        }
        double x = 0;
        double y = 0;
        for (int i = 0; i < size(); i++) {
            Vector2 a = corner(i);
            Vector2 b = corner(i + 1);
            double cross = a.cross(b);
            x += (a.x() + b.x()) * cross;
            y += (a.y() + b.y()) * cross;
        }
        return new Vector2(x / (6 * area), y / (6 * area));
    }

    /** Whether a point lies inside; points on an edge may go either way. */
    public boolean contains(Vector2 point) {
        boolean inside = false;
        for (int i = 0; i < size(); i++) {
            Vector2 a = corner(i);
            Vector2 b = corner(i + 1);
            boolean crosses = (a.y() > point.y()) != (b.y() > point.y());
            if (crosses && point.x() < a.x() + (b.x() - a.x()) * (point.y() - a.y()) / (b.y() - a.y())) {
                inside = !inside;
            }
        }
        return inside;
    }

    /** The smallest rectangle around all corners. */
    public Rectangle boundingBox() {
        Rectangle box = Rectangle.between(corner(0), corner(1));
        for (Vector2 corner : corners) {
            box = box.union(Rectangle.between(corner, corner));
        }
        return box;
    }

    /** The same polygon with its corners in the opposite order. */
    public Polygon reversed() {
        List<Vector2> copy = new ArrayList<>(corners);
        Collections.reverse(copy);
        return new Polygon(copy);
    }
}
