// go-smtp, which keeps each mail in a file before it says 250: go-smtp PORT FOLDER
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/emersion/go-smtp"
)

var count atomic.Int64

type session struct{ folder string }

func (s *session) Mail(string, *smtp.MailOptions) error { return nil }
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "refused") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	}
	return nil
}
func (s *session) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%d-%d", os.Getpid(), count.Add(1))
	return os.WriteFile(filepath.Join(s.folder, name), data, 0o600)
}
func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }

func main() {
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		return &session{os.Args[2]}, nil
	}))
	server.Addr, server.Domain = "127.0.0.1:"+os.Args[1], "relay.example"
	server.EnableSMTPUTF8, server.MaxMessageBytes = true, 30_000_000
	log.Fatal(server.ListenAndServe())
}
