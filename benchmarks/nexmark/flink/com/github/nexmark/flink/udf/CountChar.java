package com.github.nexmark.flink.udf;

import org.apache.flink.table.functions.ScalarFunction;

/** How often a character is in a text: the function that q14 names. */
public class CountChar extends ScalarFunction {
    public long eval(String text, String wanted) {
        char character = wanted.charAt(0);
        return text.chars().filter(each -> each == character).count();
    }
}
