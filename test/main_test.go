// Package test holds the end-to-end tests of framegate: real clients and servers with a framegate between them.
//
// Read testbed's package comment, then paths_test.go; then the table_*_test.go, which go row by row through what a call
// must find as it was; interop_test.go and kitex_test.go run whole libraries; resources_test.go counts what is left
// behind.
package test

import (
	"context"
	"io"
	"os"
	"testing"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/netpoll"

	"github.com/framegate/framegate/cmd/framegate/app"
	"github.com/framegate/framegate/test/testbed"
	"github.com/framegate/framegate/test/together"
)

func TestMain(m *testing.M) {
	if target := os.Getenv(interopTargetEnv); target != "" {
		runInteropCases(target)
		return
	}
	if os.Getenv(framegateEnv) != "" {
		os.Exit(app.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	if testbed.IsEtcdProcess() {
		testbed.RunEtcdProcess()
		return
	}
	if os.Getenv("TEST_KITEX_LOG") == "" { // wanted only to find out why a test fails: thousands of streams are reset here
		klog.SetOutput(io.Discard)
		netpoll.SetLoggerOutput(io.Discard)
	}
	together.Wait(12) // what measures the process or the machine is not parallel, and so has it to itself
	os.Exit(m.Run())
}
