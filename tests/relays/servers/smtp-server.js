// nodemailer's smtp-server, which keeps each mail in a file before it says 250: node smtp-server.js PORT FOLDER
const fs = require('fs');
const { SMTPServer } = require('smtp-server');
const [port, folder] = [Number(process.argv[2]), process.argv[3]];
let count = 0;
new SMTPServer({
  authOptional: true,
  disabledCommands: ['STARTTLS'],
  size: 30000000,
  onRcptTo(address, session, done) {
    const error = new Error('no such user');
    error.responseCode = 550;
    done(address.address.startsWith('refused') ? error : null);
  },
  onData(stream, session, done) {
    const parts = [];
    stream.on('data', (part) => parts.push(part));
    stream.on('end', () => {
      fs.writeFileSync(`${folder}/${process.pid}-${++count}`, Buffer.concat(parts));
      done();
    });
  },
}).listen(port, '127.0.0.1');
