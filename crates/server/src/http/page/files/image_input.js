// The image: a file that is dropped, pasted or chosen, or a URL that the server fetches.

import { byId, setText } from "./elements.js";

/** The image that the user selected last. */
export class ImageInput {
  /** What the request has: `{ base64 }` or `{ url }`. */
  #source = null;
  /** A `data:` URL of the file, or null if only the server fetches it. */
  #preview = null;
  /** Counts selections, so that a file that is read slowly does not replace a later selection. */
  #selections = 0;

  constructor() {
    const [file, url, section] = [byId("file"), byId("url"), byId("image")];
    file.addEventListener("change", () => this.#selectFile(file.files[0]));
    url.addEventListener("input", () => this.#selectUrl(url.value.trim()));
    byId("example").addEventListener("click", () => this.#selectExample());
    byId("preview").addEventListener("error", () => {
      byId("preview").hidden = true;
      byId("image-name").textContent += " (the browser cannot show this file)";
    });
    document.addEventListener("paste", (event) => {
      const { files } = event.clipboardData;
      // Some programs copy text together with an image of it.
      const isText = event.target.matches("input, textarea") && event.clipboardData.getData("text/plain") !== "";
      if (files.length > 0 && !isText) {
        event.preventDefault();
        this.#selectFile(files[0]);
      }
    });
    // Without these, the browser replaces the page by a file that is dropped beside the section.
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      section.classList.add("dropping");
    });
    document.addEventListener("dragleave", () => section.classList.remove("dropping"));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      section.classList.remove("dropping");
      this.#selectDropped(event.dataTransfer);
    });
  }

  /** Returns `{ source, preview }`, or null with a message on the page if no image is selected. */
  selected() {
    if (this.#source === null) {
      setText(byId("image-error"), "Select an image first.");
      byId("file").focus();
      return null;
    }
    return { source: this.#source, preview: this.#preview };
  }

  #selectDropped(transfer) {
    const [file] = transfer.files;
    const [url] = transfer.getData("text/uri-list").split(/\r?\n/).filter((line) => line && !line.startsWith("#"));
    if (file) {
      this.#selectFile(file);
    } else if (url) {
      byId("url").value = url;
      this.#selectUrl(url);
    }
  }

  #selectUrl(url) {
    byId("file").value = "";
    if (url === "") {
      this.#select(null, null, "");
    } else if (/^data:/i.test(url)) {
      this.#select({ url }, url, "The image in the URL");
    } else {
      // The page loads nothing from other hosts.
      this.#select({ url }, null, "The server fetches the image. The browser does not show it.");
    }
  }

  async #selectExample() {
    const selection = ++this.#selections;
    const response = await fetch("page/example.png").catch(() => null);
    if (selection !== this.#selections) {
      return;
    }
    if (!response?.ok) {
      setText(byId("image-error"), "The example image cannot be loaded.");
      return;
    }
    this.#selectFile(new File([await response.blob()], "example.png"));
  }

  #selectFile(file) {
    if (!file) {
      return;
    }
    const selection = ++this.#selections;
    const reader = new FileReader();
    reader.addEventListener("loadend", () => {
      if (selection !== this.#selections) {
        return;
      }
      byId("url").value = "";
      if (reader.error || file.size === 0) {
        this.#select(null, null, "");
        // The browser reports no change if the user chooses the same file again.
        byId("file").value = "";
        setText(byId("image-error"), `${file.name}: ${reader.error?.message ?? "The file is empty."}`);
      } else {
        this.#select({ base64: reader.result }, reader.result, file.name);
      }
    });
    reader.readAsDataURL(file);
  }

  #select(source, preview, name) {
    this.#selections += 1;
    this.#source = source;
    this.#preview = preview;
    setText(byId("image-error"), "");
    byId("image-name").textContent = name;
    const image = byId("preview");
    image.hidden = preview === null;
    if (preview === null) {
      image.removeAttribute("src");
    } else {
      image.src = preview;
    }
  }
}
