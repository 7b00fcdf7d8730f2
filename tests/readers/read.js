// Reads mails, one in base64 a line; writes what mailparser makes of each, as JSON, one a line.
const { simpleParser } = require("mailparser");

async function main() {
  let input = "";
  for await (const piece of process.stdin) input += piece;
  for (const line of input.split("\n").filter(Boolean)) {
    const mail = await simpleParser(Buffer.from(line, "base64"), { keepCidLinks: true });
    const people = (field) => (field ? [].concat(field).flatMap((one) => one.value) : []);
    console.log(
      JSON.stringify({
        from: people(mail.from),
        to: people(mail.to),
        cc: people(mail.cc),
        subject: mail.subject,
        text: mail.text,
        html: mail.html || null,
        references: mail.references ? [].concat(mail.references) : [],
        inReplyTo: mail.inReplyTo || null,
        headers: Object.fromEntries(mail.headers),
        lines: mail.headerLines,
        files: mail.attachments.map((one) => [one.filename, one.contentType, one.content.toString("base64")]),
        cids: mail.attachments.map((one) => one.cid || null),
      }),
    );
  }
}

main();
