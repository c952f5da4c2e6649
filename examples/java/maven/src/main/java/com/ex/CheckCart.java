package com.ex;

import static org.junit.Assert.assertEquals;

public class CheckCart {
    @org.junit.Test
    public void counts() {
        assertEquals(3, new Cart().count());
    }
}
