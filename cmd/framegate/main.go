// Command framegate is a gRPC proxy server built on CloudWeGo Kitex.
package main

import (
	"context"
	"os"

	"github.com/framegate/framegate/cmd/framegate/app"
)

func main() {
	os.Exit(app.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
