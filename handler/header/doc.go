// Package header decides which metadata of a call is forwarded. Fields that concern one connection only, or that describe a
// body that struct mode may change, are dropped; the via header counts the framegates that a call has passed.
package header
