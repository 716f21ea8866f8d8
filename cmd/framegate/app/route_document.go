package app

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/resolver/spec"
)

func addFileFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "file", "f", "", "file with one route or a list under routes:, - for standard input (required)")
}

const maxDocumentBytes = 64 << 20

// readRoutes reads and validates the routes of the file that -f names. There is at least one.
func readRoutes(cmd *cobra.Command, file string) ([]*spec.Route, error) {
	name, in := file, cmd.InOrStdin()
	switch file {
	case "":
		return nil, usageErrorf("%s: -f is missing, want a file or - for standard input", cmd.CommandPath())
	case "-":
		name = "standard input"
	default:
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	doc, err := io.ReadAll(io.LimitReader(in, maxDocumentBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(doc) > maxDocumentBytes {
		return nil, fmt.Errorf("%s: more than %d bytes", name, maxDocumentBytes)
	}
	routes, err := spec.ParseDocument(name, doc)
	if err == nil && len(routes) == 0 {
		return nil, fmt.Errorf("%s: routes: empty, want at least one", name)
	}
	return routes, err
}
