import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;

/** Sends the same PUT several times with Java's own client as it comes: one after another, then at once. */
public class Put {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
                .header("Authorization", arguments[1])
                .header("Content-Type", "application/json")
                .PUT(HttpRequest.BodyPublishers.ofString(arguments[2]))
                .build();
        for (int i = 0; i < 5; i++) {
            HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.statusCode() + " " + answer.body());
        }
        IntStream.range(0, 20)
                .mapToObj(i -> client.sendAsync(request, HttpResponse.BodyHandlers.ofString()))
                .toList()
                .stream()
                .map(CompletableFuture::join)
                .forEach(answer -> System.out.println(answer.statusCode() + " " + answer.body()));
    }
}
