// Package mirrors tests copies of calls for mirrors, from end to end.
//
// Enter at receiver_test.go, which has the backends that the tests use.
package mirrors
