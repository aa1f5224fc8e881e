// Of many hasty requests one runs and the newest waits; what came between is never run.

export class LatestWins<Request, Answer> {
  private running = false;
  private waiting: Request | null = null;

  /**
   * @param run does the work of one request.
   * @param done is told every answer, with its request and whether a newer one waits already (the answer is stale).
   */
  constructor(
    private readonly run: (request: Request) => Promise<Answer>,
    private readonly done: (answer: Answer, request: Request, stale: boolean) => void,
    private readonly failed: (error: unknown) => void = () => undefined,
  ) {}

  get busy(): boolean {
    return this.running;
  }

  ask(request: Request): void {
    this.waiting = request;
    if (!this.running) void this.drain();
  }

  private async drain(): Promise<void> {
    this.running = true;
    while (this.waiting !== null) {
      const request = this.waiting;
      this.waiting = null;
      try {
        const answer = await this.run(request);
        this.done(answer, request, this.waiting !== null);
      } catch (error) {
        this.failed(error);
      }
    }
    this.running = false;
  }
}
