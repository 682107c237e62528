// Takes the table of a canvas to the server and brings it back as a Parquet file.
// It is a component of its own, so that a download does not make Streamlit send a canvas all its data again.

import { base64, download, gzip } from "./files.js";
import { mounted } from "./mount.js";
import { readPacket } from "./packet.js";

class Courier {
  constructor(root) {
    this.lab = root;
    this.listener = ({ detail }) => this.ask(detail);
    window.addEventListener("e2crf-parquet", this.listener);
  }

  async ask({ file, csv }) {
    this.trigger("table", { file, csv: base64(await gzip(csv)), n: Math.random() });
  }

  update({ data, setTriggerValue }) {
    this.trigger = setTriggerValue;
    if (!data) return;
    const { head, arrays } = readPacket(data);
    // A change of theme passes the same data again.
    if (head.id === this.last) return;
    this.last = head.id;
    download(head.file, new Blob([arrays.body], { type: "application/vnd.apache.parquet" }));
  }

  close() {
    window.removeEventListener("e2crf-parquet", this.listener);
  }
}

export default mounted(Courier);
