// Package report prints results of replay: tables for a terminal, Markdown, llama-bench's table, and
// (in package html) one self-contained page. It computes nothing that is not in the results.
package report
