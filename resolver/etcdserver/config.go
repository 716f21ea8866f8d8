package etcdserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"go.etcd.io/etcd/client/pkg/v3/transport"

	"github.com/framegate/framegate/resolver/plain"
)

// DefaultAddress is where an embedded etcd serves clients unless Config says otherwise.
const DefaultAddress = "127.0.0.1:2379"

// DefaultMaxConnections is the bound of Config.MaxConnections that is 0.
const DefaultMaxConnections = 1024

// Config says where an embedded etcd keeps its data and listens, and who may use it. Who can write routes decides where
// calls go, so an Address beyond loopback wants TLS and a user, or Insecure.
type Config struct {
	Dir            string       // data directory, made if it is not there; required
	Address        string       // IP:port, localhost:port or :port for clients, port 0 takes a free one; empty means DefaultAddress
	Insecure       bool         // whoever reaches Address may read and write everything
	MaxConnections int          // of clients; one more is reset. 0 means DefaultMaxConnections
	Log            *slog.Logger // gets what etcd logs as errors; nil drops it

	CertFile, KeyFile string // PEM files of the server's certificate, read again for each connection; both or none
	ClientCAFile      string // PEM file of who may sign the certificate that each client then needs; empty means none

	// Username may do everything, and whoever is not this user nothing; both or none. A new password here is one in etcd.
	Username, Password string
}

func (c Config) withDefaults() Config {
	if c.Address == "" {
		c.Address = DefaultAddress
	}
	if c.MaxConnections <= 0 {
		c.MaxConnections = DefaultMaxConnections
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every mistake of the configuration, each beginning with its key. It does not look into files.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New(`dir: "", want a path`))
	}
	address := c.withDefaults().Address
	if err := validateAddress(address); err != nil {
		errs = append(errs, fmt.Errorf("address: %w", err))
	} else if host, _, _ := net.SplitHostPort(address); !c.mayListen(isLoopback(host)) {
		errs = append(errs, c.exposed(address))
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		errs = append(errs, fmt.Errorf("cert_file: %q with key_file %q, want both files or none", c.CertFile, c.KeyFile))
	}
	if c.ClientCAFile != "" && c.CertFile == "" {
		errs = append(errs, fmt.Errorf("client_ca_file: %q without cert_file, want a certificate of the server too", c.ClientCAFile))
	}
	return errors.Join(errs...)
}

func validateAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host != "" && host != "localhost" && net.ParseIP(host) == nil {
		return fmt.Errorf("%q, want IP:port such as %s", plain.URL(address), DefaultAddress)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q, want a port from 0 to 65535", plain.URL(address))
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// mayListen reports whether the configuration allows an address of that kind.
func (c Config) mayListen(loopback bool) bool {
	return loopback || c.Insecure || c.CertFile != "" && c.Username != ""
}

func (c Config) exposed(address string) error {
	return fmt.Errorf("address: %q, want a loopback address, or cert_file beside etcd.username, or insecure: true", plain.URL(address))
}

// tlsConfig returns nil without a certificate.
func (c Config) tlsConfig() (*tls.Config, error) {
	if c.CertFile == "" {
		return nil, nil
	}
	info := transport.TLSInfo{CertFile: c.CertFile, KeyFile: c.KeyFile, TrustedCAFile: c.ClientCAFile, ClientCertAuth: c.ClientCAFile != ""}
	conf, err := info.ServerConfig()
	if err != nil {
		return nil, fmt.Errorf("etcd cert_file: %q with key_file %q and client_ca_file %q, want PEM files: %w", c.CertFile, c.KeyFile, c.ClientCAFile, err)
	}
	return conf, nil
}
