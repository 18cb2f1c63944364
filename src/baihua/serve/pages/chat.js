// The chat page: connects its parts.
import { announce } from "./announce.js";
import { Answering, newAnswer } from "./answering.js";
import { Problem, explain } from "./api.js";
import { useChatKeys } from "./chat_keys.js";
import { Composer } from "./composer.js";
import { byId } from "./dom.js";
import { useExports } from "./exports.js";
import { drawHello } from "./hello.js";
import { onLeaving } from "./leaving.js";
import { Models } from "./models.js";
import { Notice } from "./notice.js";
import { followKeyboard, usePreferences } from "./preferences.js";
import { Follower } from "./scroll.js";
import { SettingsPanel } from "./settings.js";
import { Sidebar, drawNewButton } from "./sidebar.js";
import { SideToggle } from "./side_toggle.js";
import { Store, newConversation, openStorage, titleOf } from "./store.js";
import { Thread } from "./thread.js";
import { bringBack, putAside } from "./versions.js";
import { say } from "./words.js";

const SAVE_MS = 1000; // between two saves of a growing answer

class ChatPage {
  constructor() {
    const storage = openStorage();
    this.store = new Store(storage);
    this.running = new Map(); // conversation id to its Answering
    this.notice = new Notice(byId("notice"));
    this.side = new SideToggle(byId("toggle"), byId("veil"));
    this.follower = new Follower(byId("scroll"), byId("latest"));
    this.models = new Models(byId("model"), (id) => this.pickModel(id));
    this.composer = new Composer(byId("composer"), { onSend: (text) => this.send(text), onStop: () => this.stop() });
    this.thread = new Thread(byId("thread"), {
      edit: (at, text) => this.editQuestion(at, text),
      again: () => this.again(),
      goOn: () => this.send(say("go_on_question")),
      swap: (aside) => this.swap(aside),
      grown: () => this.follower.grow(),
    });
    this.sidebar = new Sidebar({ list: byId("list"), box: byId("search") }, this.store, {
      open: (id) => this.goTo(id),
      rename: (id, title) => this.change(this.store.get(id), { title }),
      remove: (id) => this.remove(id),
    });
    this.settings = new SettingsPanel({
      onChange: (settings) => this.change(this.shown, { settings }),
      onDefaults: (settings) => this.store.saveDefaults({ settings }),
    });
    this.shown = newConversation(this.store.defaults());
    this.listen();
    if (!storage) this.notice.show(say("no_storage"), { isLasting: true });
  }

  async start() {
    try {
      await this.models.load();
      this.draw();
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      const retry = { word: say("retry"), run: () => this.start() };
      this.notice.show(`${say("models_failed")} ${explain(problem)}`, { action: retry, isLasting: true });
    }
  }

  listen() {
    usePreferences(byId("language"), byId("scheme"), () => this.draw());
    followKeyboard();
    useExports({ current: () => this.shown, all: () => this.store.list() });
    byId("new-chat").addEventListener("click", () => this.goTo(""));
    byId("open-settings").addEventListener("click", () => this.openSettings());
    addEventListener("hashchange", () => this.openFromAddress());
    addEventListener("storage", (event) => this.takeOver(event.key));
    onLeaving({
      save: () => this.eachRunning((one) => this.save(one.conversation)),
      leave: () => this.eachRunning((one) => one.leave()),
    });
    useChatKeys(this);
  }

  // Drawing

  goTo(id) {
    this.side.leave();
    if (location.hash.slice(1) === id) this.openFromAddress();
    else location.hash = id;
  }

  openFromAddress() {
    const found = this.store.get(location.hash.slice(1));
    this.shown = found ?? newConversation(this.store.defaults());
    this.draw();
    this.follower.toEnd();
    this.composer.focus();
  }

  draw() {
    const { shown } = this;
    const model = this.models.choose(shown.model);
    this.models.show(model);
    const isEmpty = shown.messages.length === 0;
    document.title = isEmpty ? "白话 Baihua" : `${titleOf(shown)} · 白话`;
    drawHello(isEmpty, model, (text) => this.send(text));
    drawNewButton(byId("new-chat"));
    this.sidebar.draw(shown.id);
    this.composer.setRunning(this.running.has(shown.id));
    this.thread.show(shown, this.look());
  }

  look() {
    const { shown, models } = this;
    const contextLength = models.contextLength(models.choose(shown.model));
    return { isRunning: this.running.has(shown.id), numModels: models.all.length, contextLength };
  }

  openSettings() {
    this.settings.show(this.shown.settings);
  }

  // Questions and answers

  send(text) {
    if (this.running.has(this.shown.id)) return;
    if (this.models.all.length === 0) {
      this.composer.text = text;
      this.start();
      return;
    }
    this.shown.messages = [...this.shown.messages, { role: "user", content: text }];
    this.answer();
  }

  editQuestion(at, text) {
    const { shown } = this;
    this.stop();
    const num = shown.messages.length - at - 1;
    putAside(shown, at);
    const aside = shown.asides.at(-1);
    const run = () => this.shown === shown && shown.asides.includes(aside) && this.swap(aside);
    if (num > 0) this.notice.show(say("dropped", { n: num }), { action: { word: say("undo"), run } });
    this.send(text);
  }

  /** Another answer to the last question. */
  again() {
    const { shown } = this;
    if (shown.messages.length === 0) return;
    this.stop();
    if (shown.messages.at(-1)?.role === "assistant") putAside(shown, shown.messages.length - 1);
    this.answer();
  }

  swap(aside) {
    this.stop();
    bringBack(this.shown, aside);
    this.change(this.shown, {});
    this.draw();
  }

  stop() {
    this.running.get(this.shown.id)?.stop();
    this.running.delete(this.shown.id);
  }

  async answer() {
    const conversation = this.shown;
    const model = this.models.choose(conversation.model);
    const answer = newAnswer(model);
    conversation.messages = [...conversation.messages, answer];
    const answering = new Answering(conversation, answer, () => this.grow(conversation, answering));
    this.running.set(conversation.id, answering);
    this.change(conversation, { model, updated: Date.now() });
    // The address changes without a new history entry: the conversation was already open, it only had no address.
    history.replaceState(null, "", `#${conversation.id}`);
    this.draw();
    this.follower.toEnd();
    announce(say("thinking"));
    await answering.run();
    if (this.running.get(conversation.id) === answering) this.running.delete(conversation.id);
    this.grow(conversation, answering);
    // A conversation deleted meanwhile stays deleted.
    if (this.store.get(conversation.id)) this.change(conversation, {});
    if (answer.finish !== "error") announce(say("answered", { text: answer.content }));
  }

  grow(conversation, answering) {
    const now = performance.now();
    if (now - answering.savedAt > SAVE_MS && this.store.get(conversation.id)) {
      answering.savedAt = now;
      this.save(conversation);
    }
    if (this.shown !== conversation || conversation.messages.at(-1) !== answering.answer) return;
    this.composer.setRunning(this.running.has(conversation.id));
    this.thread.update(this.look());
  }

  // Storage

  change(conversation, changes) {
    Object.assign(conversation, changes);
    // A conversation is stored from its first question on.
    if (conversation.messages.length > 0) this.save(conversation);
    this.sidebar.draw();
  }

  save(conversation) {
    if (!this.store.save(conversation)) this.notice.show(say("full"), { isLasting: true });
  }

  eachRunning(work) {
    for (const answering of this.running.values()) work(answering);
  }

  pickModel(model) {
    this.store.saveDefaults({ model });
    this.change(this.shown, { model });
    this.draw();
  }

  remove(id) {
    const conversation = this.store.get(id);
    this.running.get(id)?.stop();
    this.running.delete(id);
    this.store.remove(id);
    const bringItBack = () => {
      this.save(conversation);
      this.goTo(id);
    };
    const title = titleOf(conversation) || say("untitled");
    this.notice.show(say("deleted", { title }), { action: { word: say("undo"), run: bringItBack } });
    if (this.shown === conversation) this.goTo("");
    else this.sidebar.draw();
  }

  /** Another tab changed the storage. */
  takeOver(place) {
    if (!this.store.refresh(place)) return;
    const fresh = this.store.get(this.shown.id);
    if (!fresh || this.running.has(fresh.id)) return this.sidebar.draw();
    this.shown = fresh;
    this.draw();
  }
}

const page = new ChatPage();
page.openFromAddress();
page.start();
