package app

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
)

// newSchemaCommand returns `framegate schema`. Its subcommands work on the schemas in etcd, which routes name with
// "schema: {name: NAME}".
func newSchemaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Put, get, list and delete schemas",
		Long: `Put, get, list and delete the schemas in etcd: the message types of services, from .proto files or FileDescriptorSets.
A route in struct mode names one with "schema: {name: NAME}"; a change applies to new calls of every framegate at once.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmd.Help(); err != nil {
				return err
			}
			return usageErrorf("%s: a command is missing, want put, get, list or delete", cmd.CommandPath())
		},
	}
	cmd.AddCommand(newSchemaPutCommand(), newSchemaGetCommand(), newSchemaListCommand(), newSchemaDeleteCommand())
	return cmd
}

// withSchemas is withEtcd with the schemas in etcd.
func withSchemas(cmd *cobra.Command, f *etcdFlags, out *outputFlag, do func(context.Context, *etcdstore.Schemas) error) error {
	return withEtcd(cmd, f, out, func(ctx context.Context, cli *clientv3.Client) error {
		return do(ctx, etcdstore.NewSchemas(cli, f.prefix, structmode.CompileRoute))
	})
}

// onSchema makes cmd a command that does something with one schema in etcd, as onRoute does with a route.
func onSchema(cmd *cobra.Command, do func(ctx context.Context, s *etcdstore.Schemas, out *outputFlag, name string) error) *cobra.Command {
	var etcd etcdFlags
	var out outputFlag
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return usageErrorf("%s: arguments %q, want the NAME of one schema", cmd.CommandPath(), args)
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withSchemas(cmd, &etcd, &out, func(ctx context.Context, s *etcdstore.Schemas) error {
			err := do(ctx, s, &out, args[0])
			if errors.Is(err, etcdstore.ErrNotFound) {
				return fmt.Errorf("schema %s: not found in etcd at %s", args[0], etcd.endpoints())
			}
			return err
		})
	}
	etcd.register(cmd)
	out.register(cmd)
	return cmd
}

func newSchemaPutCommand() *cobra.Command {
	var files, imports []string
	cmd := &cobra.Command{
		Use:   "put NAME -f FILE.proto|FILE.binpb",
		Short: "Store a schema in etcd",
		Long: `Store a schema in etcd. It is made of .proto files, with what they import (well-known types need no file), or of
FileDescriptorSets as protoc -o and buf build -o write them. Nothing is written if a route in etcd that uses the schema
does not fit it: the rule and the field are named.`,
		Example: `  framegate schema put shop -f shop.proto
  framegate schema put shop -f shop/v1/shop.proto -I proto
  framegate schema put shop -f shop.binpb`,
	}
	onSchema(cmd, func(ctx context.Context, s *etcdstore.Schemas, out *outputFlag, name string) error {
		doc, err := schema.Load(ctx, files, imports)
		if err != nil {
			return err
		}
		result, err := s.Put(ctx, name, doc)
		if err != nil {
			return err
		}
		return writeSchemaChange(cmd.OutOrStdout(), out, schemaChange{Name: name, Outcome: result.Outcome, Revision: result.Revision})
	})
	cmd.PreRunE = func(_ *cobra.Command, args []string) error {
		if len(files) == 0 {
			return usageErrorf("--file: missing, want a .proto file or a FileDescriptorSet")
		}
		if err := spec.ValidateName(args[0]); err != nil {
			return usageErrorf("NAME: %v", err)
		}
		return nil
	}
	cmd.Flags().StringSliceVarP(&files, "file", "f", nil, "a .proto file or a FileDescriptorSet; may be given more than once (required)")
	cmd.Flags().StringSliceVarP(&imports, "import", "I", nil, "directory of .proto files and what they import; none means the directories of the files")
	return cmd
}

func newSchemaGetCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "Print the methods of a schema, or write its FileDescriptorSet to a file",
		Example: `  framegate schema get shop
  framegate schema get shop --descriptors shop.binpb`,
	}
	onSchema(cmd, func(ctx context.Context, s *etcdstore.Schemas, out *outputFlag, name string) error {
		st, err := s.Get(ctx, name)
		if err != nil {
			return err
		}
		if st.Err != nil {
			return fmt.Errorf("schema %s: bad document at revision %d: %w", name, st.Revision, st.Err)
		}
		if file != "" {
			return os.WriteFile(file, st.Schema.Encode(), 0o644)
		}
		return writeSchema(cmd.OutOrStdout(), out, st)
	})
	cmd.Flags().StringVar(&file, "descriptors", "", "file to write the FileDescriptorSet to")
	return cmd
}

func newSchemaListCommand() *cobra.Command {
	var etcd etcdFlags
	var out outputFlag
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "Print all schemas; documents in etcd that are no schemas are named on standard error",
		Example: "  framegate schema list",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withSchemas(cmd, &etcd, &out, func(ctx context.Context, s *etcdstore.Schemas) error {
				all, err := s.List(ctx)
				if err != nil {
					return err
				}
				for _, st := range all {
					if st.Err != nil {
						fmt.Fprintf(cmd.ErrOrStderr(), "framegate: schema %s: bad document at revision %d: %s; put it again or delete it\n",
							plainName(st.Name), st.Revision, oneLine(st.Err))
					}
				}
				return writeSchemas(cmd.OutOrStdout(), &out, all)
			})
		},
	}
	etcd.register(cmd)
	out.register(cmd)
	return cmd
}

func newSchemaDeleteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Short:   "Remove a schema that no route uses from etcd",
		Example: "  framegate schema delete shop",
	}
	return onSchema(cmd, func(ctx context.Context, s *etcdstore.Schemas, out *outputFlag, name string) error {
		found, err := s.Delete(ctx, name)
		if err == nil && !found {
			err = etcdstore.ErrNotFound
		}
		if err != nil {
			return err
		}
		return writeSchemaChange(cmd.OutOrStdout(), out, schemaChange{Name: name, Outcome: match.Deleted})
	})
}
