//go:build !unix

package relay

import (
	"errors"
	"net"
)

// Supported reports whether this platform has what the relay needs: sockets that are read and written by their descriptors.
const Supported = false

func read(int, []byte) (int, error) { return 0, errors.ErrUnsupported }

func write(int, []byte) (int, error) { return 0, errors.ErrUnsupported }

func socketPair() (one, other net.Conn, err error) { return nil, nil, errors.ErrUnsupported }
