package hpack

// Kind says which field this is, for those that a proxy of gRPC asks for often.
type Kind uint8

const (
	Other     Kind = iota // none of those below
	Method                // :method
	Scheme                // :scheme
	Authority             // :authority
	Path                  // :path
	Status                // :status
	Protocol              // :protocol (RFC 8441)
	ContentType
	ContentLength
	TE
	Host
	// Connection is a connection-specific field, which HTTP/2 forbids (RFC 9113 section 8.2.2): connection, proxy-connection,
	// keep-alive, transfer-encoding, upgrade, http2-settings.
	Connection
	Cookie
	UserAgent
	Via
	GRPCTimeout
	GRPCStatus
	GRPCMessage
	GRPCEncoding
	GRPCAcceptEncoding
	GRPCStatusDetails // grpc-status-details-bin
)

// Pseudo reports whether k is one of the pseudo-header fields known here. A Field with a name that begins with a colon and of
// another Kind has the fault UnknownPseudo.
func (k Kind) Pseudo() bool { return k >= Method && k <= Protocol }

// kindOf wants the name in lower case; any other is Other.
func kindOf(name string) Kind {
	switch name {
	case ":method":
		return Method
	case ":scheme":
		return Scheme
	case ":authority":
		return Authority
	case ":path":
		return Path
	case ":status":
		return Status
	case ":protocol":
		return Protocol
	case "content-type":
		return ContentType
	case "content-length":
		return ContentLength
	case "te":
		return TE
	case "host":
		return Host
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "http2-settings":
		return Connection
	case "cookie":
		return Cookie
	case "user-agent":
		return UserAgent
	case "via":
		return Via
	case "grpc-timeout":
		return GRPCTimeout
	case "grpc-status":
		return GRPCStatus
	case "grpc-message":
		return GRPCMessage
	case "grpc-encoding":
		return GRPCEncoding
	case "grpc-accept-encoding":
		return GRPCAcceptEncoding
	case "grpc-status-details-bin":
		return GRPCStatusDetails
	}
	return Other
}
