// SPDX-License-Identifier: Apache-2.0
package dev.kdexamples.rate;

import java.util.Objects;
import java.util.function.LongSupplier;

/** A rate limiter: tokens come back at a steady rate up to a capacity. The clock is given. */
public final class TokenBucket {

    private final int capacity;
    private final int tokensPerSecond;
    private final LongSupplier clockMillis;
    private double tokens;
    private long lastMillis;
    private long rejected;

    /** A full bucket. The clock gives milliseconds and must not run backwards. */
    public TokenBucket(int capacity, int tokensPerSecond, LongSupplier clockMillis) {
        if (capacity < 1) {
            throw new IllegalArgumentException("capacity must be at least 1: " + capacity);
        }
        if (tokensPerSecond < 1) {
            throw new IllegalArgumentException("rate must be at least 1: " + tokensPerSecond);
        }
        this.capacity = capacity;
        this.tokensPerSecond = tokensPerSecond;
        this.clockMillis = Objects.requireNonNull(clockMillis, "clockMillis");
        this.tokens = capacity;
        this.lastMillis = clockMillis.getAsLong();
    }

    /** Takes one token if there is one. */
    public boolean tryAcquire() {
        return tryAcquire(1);
    }

    /** Takes several tokens if there are as many, and none otherwise. */
    public boolean tryAcquire(int count) {
        requirePossible(count);
        refill();
        if (tokens < count) {
            rejected++;
            return false;
        }
        tokens -= count;
        return true;
    }

    /** The number of whole tokens at hand. */
    public int available() {
        refill();
        return (int) tokens;
    }

    /** Milliseconds until so many tokens are at hand, zero when they are now. */
    public long millisUntil(int count) {
        requirePossible(count);
        refill();
        double missing = count - tokens;
        return missing <= 0 ? 0 : (long) Math.ceil(missing * 1000 / tokensPerSecond);
    }

    public int getCapacity() {
        return capacity;
    }

    public int getTokensPerSecond() {
        return tokensPerSecond;
    }

    /** How many requests were turned down. */
    public long getRejected() {
        return rejected;
    }

    public boolean isFull() {
        return available() == capacity;
    }

    /** Takes all tokens and returns how many whole ones there were. */
    public int drain() {
        int whole = available();
        tokens = 0;
        return whole;
    }

    private void refill() {
        long now = clockMillis.getAsLong();
        if (now < lastMillis) {
            throw new IllegalStateException("the clock ran backwards");
        }
        tokens = Math.min(capacity, tokens + (now - lastMillis) * tokensPerSecond / 1000.0);
        lastMillis = now;
    }

    private void requirePossible(int count) {
        if (count < 1 || count > capacity) {
            throw new IllegalArgumentException("not between 1 and " + capacity + ": " + count);
        }
    }
}
