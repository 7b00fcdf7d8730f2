// Keeps each mail in a file before Haraka says 250, and refuses who is called so.
const fs = require('fs');
let count = 0;
exports.hook_rcpt = function (next, connection, params) {
  next(params[0].user.startsWith('refused') ? DENY : OK, 'no such user');
};
exports.hook_queue = function (next, connection) {
  connection.transaction.message_stream.get_data((data) => {
    fs.writeFileSync(`${process.env.KEPT}/${process.pid}-${++count}`, data);
    next(OK);
  });
};
